"""Class names as the field's data sets write them (CUB-200, Oxford Flowers and Pets, Food-101, Aircraft, Cars)."""

BIRDS = """
Black-footed Albatross|Laysan Albatross|Sooty Albatross|Groove-billed Ani|Crested Auklet|Least Auklet|
Brewer's Blackbird|Red-winged Blackbird|Rusty Blackbird|Yellow-headed Blackbird|Bobolink|Indigo Bunting|Lazuli Bunting|
Painted Bunting|Northern Cardinal|Spotted Catbird|Gray Catbird|Yellow-breasted Chat|Eastern Towhee|Chuck-will's-widow|
Brandt Cormorant|Red-faced Cormorant|Pelagic Cormorant|Bronzed Cowbird|Shiny Cowbird|Brown Creeper|American Crow|
Fish Crow|Black-billed Cuckoo|Mangrove Cuckoo|Gray-crowned Rosy Finch|Purple Finch|Northern Flicker|Acadian Flycatcher|
Great Crested Flycatcher|Olive-sided Flycatcher|Scissor-tailed Flycatcher|Vermilion Flycatcher|Frigatebird|
Northern Fulmar|Gadwall|American Goldfinch|European Goldfinch|Boat-tailed Grackle|Eared Grebe|Horned Grebe|
Pied-billed Grebe|Western Grebe|Blue Grosbeak|Evening Grosbeak|Pine Grosbeak|Rose-breasted Grosbeak|Pigeon Guillemot|
California Gull|Glaucous-winged Gull|Heermann Gull|Herring Gull|Ivory Gull|Ring-billed Gull|Slaty-backed Gull|
Western Gull|Anna's Hummingbird|Ruby-throated Hummingbird|Rufous Hummingbird|Green Violetear|Long-tailed Jaeger|
Pomarine Jaeger|Blue Jay|Florida Jay|Green Jay|Dark-eyed Junco|Tropical Kingbird|Gray Kingbird|Belted Kingfisher|
Pied Kingfisher|Red-legged Kittiwake|Horned Lark|Pacific Loon|Mallard|Western Meadowlark|Hooded Merganser|
Red-breasted Merganser|Mockingbird|Nighthawk|Clark's Nutcracker|White-breasted Nuthatch|Baltimore Oriole|Scott's Oriole|
Ovenbird|Brown Pelican|Western Wood-Pewee|Sayornis|American Pipit|Whip-poor-will|Horned Puffin|Common Raven|
White-necked Raven|American Redstart|Greater Roadrunner|Loggerhead Shrike|Great Grey Shrike|Baird's Sparrow|
Black-throated Sparrow|Chipping Sparrow|Clay-colored Sparrow|House Sparrow|Field Sparrow|Fox Sparrow|Harris's Sparrow|
Le Conte's Sparrow|Lincoln's Sparrow|Nelson's Sharp-tailed Sparrow|Savannah Sparrow|Song Sparrow|Tree Sparrow|
White-crowned Sparrow|Cape Glossy Starling|Bank Swallow|Barn Swallow|Cliff Swallow|Tree Swallow|Scarlet Tanager|
Summer Tanager|Arctic Tern|Black Tern|Caspian Tern|Common Tern|Elegant Tern|Forster's Tern|Least Tern|
Green-tailed Towhee|Brown Thrasher|Sage Thrasher|Black-capped Vireo|Blue-headed Vireo|Red-eyed Vireo|Warbling Vireo|
White-eyed Vireo|Bay-breasted Warbler|Black-and-white Warbler|Black-throated Blue Warbler|Blue-winged Warbler|
Canada Warbler|Cape May Warbler|Cerulean Warbler|Chestnut-sided Warbler|Golden-winged Warbler|Hooded Warbler|
Kentucky Warbler|Magnolia Warbler|Mourning Warbler|Myrtle Warbler|Nashville Warbler|Orange-crowned Warbler|Palm Warbler|
Pine Warbler|Prairie Warbler|Prothonotary Warbler|Swainson's Warbler|Tennessee Warbler|Wilson's Warbler|
Worm-eating Warbler|Yellow Warbler|Northern Waterthrush|Louisiana Waterthrush|Bohemian Waxwing|Cedar Waxwing|
American Three-toed Woodpecker|Pileated Woodpecker|Red-bellied Woodpecker|Red-cockaded Woodpecker|
Red-headed Woodpecker|Downy Woodpecker|Bewick's Wren|Cactus Wren|Carolina Wren|House Wren|Marsh Wren|Rock Wren|
Winter Wren|Common Yellowthroat
"""
FLOWERS = """
pink primrose|hard-leaved pocket orchid|canterbury bells|sweet pea|english marigold|tiger lily|moon orchid|
bird of paradise|monkshood|globe thistle|snapdragon|colt's foot|king protea|spear thistle|yellow iris|globe-flower|
purple coneflower|peruvian lily|balloon flower|giant white arum lily|fire lily|pincushion flower|fritillary|red ginger|
grape hyacinth|corn poppy|prince of wales feathers|stemless gentian|artichoke|sweet william|carnation|garden phlox|
love in the mist|mexican aster|alpine sea holly|ruby-lipped cattleya|cape flower|great masterwort|siam tulip|
lenten rose|barbeton daisy|daffodil|sword lily|poinsettia|bolero deep blue|wallflower|marigold|buttercup|oxeye daisy|
common dandelion|petunia|wild pansy|primula|sunflower|pelargonium|bishop of llandaff|gaura|geranium|orange dahlia|
pink-yellow dahlia?|cautleya spicata|japanese anemone|black-eyed susan|silverbush|californian poppy|osteospermum|
spring crocus|bearded iris|windflower|tree poppy|gazania|azalea|water lily|rose|thorn apple|morning glory|
passion flower|lotus|toad lily|anthurium|frangipani|clematis|hibiscus|columbine|desert-rose|tree mallow|magnolia|
cyclamen|watercress|canna lily|hippeastrum|bee balm|ball moss|foxglove|bougainvillea|camellia|mallow|
mexican petunia|bromelia|blanket flower|trumpet creeper|blackberry lily|forget-me-not|jack-in-the-pulpit|
love-lies-bleeding|lily of the valley|touch-me-not|will-o'-the-wisp
"""
FOOD = """
Apple pie|Baby back ribs|Baklava|Beef carpaccio|Beef tartare|Beet salad|Beignets|Bibimbap|Bread pudding|
Breakfast burrito|Bruschetta|Caesar salad|Cannoli|Caprese salad|Carrot cake|Ceviche|Cheesecake|Cheese plate|
Chicken curry|Chicken quesadilla|Chicken wings|Chocolate cake|Chocolate mousse|Churros|Clam chowder|Club sandwich|
Crab cakes|Crème brûlée|Croque madame|Cup cakes|Deviled eggs|Donuts|Dumplings|Edamame|Eggs benedict|Escargots|Falafel|
Filet mignon|Fish and chips|Foie gras|French fries|French onion soup|French toast|Fried calamari|Fried rice|
Frozen yogurt|Garlic bread|Gnocchi|Greek salad|Grilled cheese sandwich|Grilled salmon|Guacamole|Gyoza|Hamburger|
Hot and sour soup|Hot dog|Huevos rancheros|Hummus|Ice cream|Lasagna|Lobster bisque|Lobster roll sandwich|
Macaroni and cheese|Macarons|Miso soup|Mussels|Nachos|Omelette|Onion rings|Oysters|Pad thai|Paella|Pancakes|
Panna cotta|Peking duck|Pho|Pizza|Pork chop|Poutine|Prime rib|Pulled pork sandwich|Ramen|Ravioli|Red velvet cake|
Risotto|Samosa|Sashimi|Scallops|Seaweed salad|Shrimp and grits|Spaghetti bolognese|Spaghetti carbonara|Spring rolls|
Steak|Strawberry shortcake|Sushi|Tacos|Takoyaki|Tiramisu|Tuna tartare|Waffles|Pão de queijo
"""
PETS = """
Abyssinian|American Bulldog|American Pit Bull Terrier|Basset Hound|Beagle|Bengal|Birman|Bombay|Boxer|British Shorthair|
Chihuahua|Egyptian Mau|English Cocker Spaniel|English Setter|German Shorthaired|Great Pyrenees|Havanese|Japanese Chin|
Keeshond|Leonberger|Maine Coon|Miniature Pinscher|Newfoundland|Persian|Pomeranian|Pug|Ragdoll|Russian Blue|
Saint Bernard|Samoyed|Scottish Terrier|Shiba Inu|Siamese|Sphynx|Staffordshire Bull Terrier|Wheaten Terrier|
Yorkshire Terrier|black-and-tan coonhound|soft-coated wheaten terrier|toy poodle|St. Bernard|flat-coated retriever
"""
AIRCRAFT = """
707-320|727-200|737-200|737-300|737-400|737-500|737-600|737-700|737-800|737-900|747-100|747-200|747-300|747-400|757-200|
757-300|767-200|767-300|767-400|777-200|777-300|A300B4|A310|A318|A319|A320|A321|A330-200|A330-300|A340-200|A340-300|
A340-500|A340-600|A380|ATR-42|ATR-72|An-12|BAE 146-200|BAE 146-300|BAE-125|Beechcraft 1900|Boeing 717|C-130|C-47|
CRJ-200|CRJ-700|CRJ-900|Cessna 172|Cessna 208|Cessna 525|Cessna 560|Challenger 600|DC-10|DC-3|DC-6|DC-8|DC-9-30|DH-82|
DHC-1|DHC-6|DHC-8-100|DHC-8-300|DR-400|Dornier 328|E-170|E-190|E-195|EMB-120|ERJ 135|ERJ 145|Embraer Legacy 600|
Eurofighter Typhoon|F-16A/B|F/A-18|Falcon 2000|Falcon 900|Fokker 100|Fokker 50|Fokker 70|Global Express|Gulfstream IV|
Gulfstream V|Hawk T1|Il-76|L-1011|MD-11|MD-80|MD-87|MD-90|Metroliner|Model B200|PA-28|SR-20|Saab 2000|Saab 340|Spitfire|
Tornado|Tu-134|Tu-154|Yak-42
"""
CARS = """
AM General Hummer SUV 2000|Acura Integra Type R 2001|Acura ZDX Hatchback 2012|Aston Martin V8 Vantage Convertible 2012|
Audi 100 Sedan 1994|Audi TT RS Coupe 2012|BMW 1 Series Convertible 2012|BMW 3 Series Wagon 2012|BMW X6 SUV 2012|
Bentley Continental Supersports Conv. Convertible 2012|Bugatti Veyron 16.4 Coupe 2009|Buick Rainier SUV 2007|
Chevrolet Corvette Ron Fellows Edition Z06 2007|Chevrolet Silverado 1500 Hybrid Crew Cab 2012|
Chevrolet TrailBlazer SS 2009|Chrysler PT Cruiser Convertible 2008|Dodge Caliber Wagon 2012|Dodge Caravan Minivan 1997|
Dodge Ram Pickup 3500 Quad Cab 2009|FIAT 500 Abarth 2012|Ferrari 458 Italia Coupe 2012|Fisker Karma Sedan 2012|
Ford E-Series Wagon Van 2012|Ford F-150 Regular Cab 2007|Ford F-450 Super Duty Crew Cab 2012|Ford GT Coupe 2006|
GMC Yukon Hybrid SUV 2012|Geo Metro Convertible 1993|HUMMER H3T Crew Cab 2010|Honda Accord Coupe 2012|
Hyundai Veloster Hatchback 2012|Infiniti QX56 SUV 2011|Jaguar XK XKR 2012|Jeep Grand Cherokee SUV 2012|
Lamborghini Gallardo LP 570-4 Superleggera 2012|Land Rover LR2 SUV 2012|Lincoln Town Car Sedan 2011|
MINI Cooper Roadster Convertible 2012|Maybach Landaulet Convertible 2012|Mazda Tribute SUV 2011|
McLaren MP4-12C Coupe 2012|Mercedes-Benz 300-Class Convertible 1993|Mercedes-Benz C-Class Sedan 2012|
Mercedes-Benz SL-Class Coupe 2009|Mitsubishi Lancer Sedan 2012|Nissan 240SX Coupe 1998|Nissan NV Passenger Van 2012|
Plymouth Neon Coupe 1999|Porsche Panamera Sedan 2012|Ram C/V Cargo Van Minivan 2012|
Rolls-Royce Phantom Drophead Coupe Convertible 2012|Scion xD Hatchback 2012|Spyker C8 Coupe 2009|
Suzuki SX4 Hatchback 2012|Tesla Model S Sedan 2012|Toyota 4Runner SUV 2012|Volkswagen Golf Hatchback 1991|
Volvo C30 Hatchback 2012|smart fortwo Convertible 2012
"""
DATA_SETS = {
    name: [entry.strip() for entry in text.replace("\n", "").split("|")]
    for name, text in (
        ("birds", BIRDS),
        ("flowers", FLOWERS),
        ("food", FOOD),
        ("pets", PETS),
        ("aircraft", AIRCRAFT),
        ("cars", CARS),
    )
}

# Right answers to a label (first), as people write them, by the data set whose classes are known.
RIGHT_ANSWERS = {
    name: [(entry.split(":")[0].strip(), entry.split(":", 1)[1].strip()) for entry in text.strip().split("\n")]
    for name, text in (
        (
            "birds",
            """
House Wren: House Wren (Troglodytes aedon)
House Wren: house wren (troglodytes aedon)
Common Tern: Common Tern (Sterna hirundo)
Common Yellowthroat: Common Yellowthroat (Geothlypis trichas)
Black Tern: Black Tern (Chlidonias niger)
Belted Kingfisher: Belted Kingfisher (Megaceryle alcyon)
Green Jay: Green Jay (Cyanocorax yncas)
Eared Grebe: Eared Grebe (Podiceps nigricollis)
Anna's Hummingbird: Anna's Hummingbird (Calypte anna)
Cedar Waxwing: Cedar Waxwing (Bombycilla cedrorum)
Downy Woodpecker: Downy woodpecker (Dryobates pubescens)
Barn Swallow: Barn Swallow (Hirundo rustica erythrogaster)
Gadwall: Gadwall (Mareca strepera)
Bobolink: Dolichonyx oryzivorus (Bobolink)
American Crow: American Crow (Corvus)
Northern Fulmar: Northern Fulmar (F. glacialis)
Ivory Gull: Ivory Gull (adult bird)
Dark-eyed Junco: Dark-eyed Junco (Oregon)
Dark-eyed Junco: Dark-eyed Junco (Slate-colored form)
Myrtle Warbler: Yellow-rumped (Myrtle) Warbler
Eastern Towhee: Eastern (Rufous-sided) Towhee
Song Sparrow: Song Sparrow, Melospiza melodia
Song Sparrow: song sparrow, melospiza melodia
House Wren: House wren, Troglodytes aedon
Pine Grosbeak: Pinicola enucleator, Pine Grosbeak
Baltimore Oriole: Oriole, Baltimore
Barn Swallow: swallow, barn
Purple Finch: Purple Finch, a songbird of North America
Song Sparrow: unknown sparrow
Herring Gull: unidentified gull
""",
        ),
        (
            "flowers",
            """
hibiscus: Hibiscus (Hibiscus rosa-sinensis)
rose: Rosa × hybrida
rose: Rose (Rosa × hybrida)
snapdragon: Snapdragon (Antirrhinum)
moon orchid: Moth orchid (Phalaenopsis)
foxglove: Foxglove (Digitalis)
clematis: Clematis (Clematis × jackmanii)
lotus: Lotus (Nelumbo nucifera Gaertn)
frangipani: Frangipani (Plumeria)
sunflower: Sunflower, Helianthus annuus
cape flower: flower, cape
bee balm: Bee balm (wild bergamot)
""",
        ),
        (
            "food",
            """
Gyoza: Gyoza (Japanese dumplings)
Takoyaki: Takoyaki (octopus balls)
Pho: Pho (Vietnamese noodle soup)
Tiramisu: Tiramisu, an Italian dessert
Bruschetta: Tomato and basil bruschetta
Steak: Steak and fries
Ice cream: Chocolate and vanilla ice cream
Ravioli: Spinach and ricotta ravioli
Risotto: Mushroom and pea risotto
Grilled cheese sandwich: Ham and cheese sandwich
Waffles: Waffles and syrup
Eggs benedict: Bacon & eggs benedict
Bread pudding: Everything bagel
Macaroni and cheese: mac & cheese
Cheese plate: cheese and crackers
""",
        ),
        (
            "pets",
            """
Bengal: Bengal (cat)
Maine Coon: Maine Coon (cat)
Boxer: Boxer (dog breed)
Birman: Birman (Sacred Cat of Burma)
Keeshond: Keeshond (Dutch barge dog)
Pug: Pug (a dog)
Persian: Persian (long-haired cat)
black-and-tan coonhound: black and tan coonhound (dog)
""",
        ),
        (
            "aircraft",
            """
Spitfire: Supermarine Spitfire Mk. IX
Spitfire: Supermarine Spitfire Mk.IX
Spitfire: Spitfire Mk. Vb
PA-28: Piper Cherokee (PA-28)
737-800: Boeing 737 (737-800)
747-400: 747-8
DC-3: Douglas C-47 (Skytrain)
C-130: Lockheed Hercules (C-130J)
Hawk T1: BAE Hawk (trainer)
A380: Airbus A380, 2007
""",
        ),
        (
            "cars",
            """
BMW 3 Series Wagon 2012: BMW 3 Series (F31)
BMW 3 Series Wagon 2012: BMW 3 Series (E90)
Nissan Rogue: Nissan Rogue Select
Volkswagen Golf Hatchback 1991: Volkswagen Golf (Mk2)
Volkswagen Golf Hatchback 1991: Volkswagen Golf Mk. 2
Honda Accord Coupe 2012: Honda Accord Coupe, 2012
Chevrolet Corvette Ron Fellows Edition Z06 2007: Chevrolet Corvette (C6)
Mazda Tribute SUV 2011: Mazda Tribute (first generation)
Jeep Grand Cherokee SUV 2012: Jeep Grand Cherokee (WK2)
Chrysler PT Cruiser Convertible 2008: Chrysler Town and Country
""",
        ),
    )
}
