"""Class names of kinds that the six benchmarks lack: possessives, accents, other scripts, models, trees of makes."""

from __future__ import annotations

import json
from pathlib import Path

BENCHMARKS: dict[str, list[str]] = json.loads((Path(__file__).parent / "benchmark_names.json").read_text("utf-8"))

BIRDS = """
Abert's Towhee|Allen's Hummingbird|Anna's Hummingbird|Audubon's Oriole|Bachman's Sparrow|Baird's Sandpiper|
Bell's Vireo|Bewick's Wren|Bicknell's Thrush|Botteri's Sparrow|Brandt's Cormorant|Brewer's Blackbird|
Brewer's Sparrow|Buller's Shearwater|Bullock's Oriole|Cassin's Auklet|Cassin's Finch|Cassin's Kingbird|
Cassin's Vireo|Chuck-will's-widow|Clark's Grebe|Clark's Nutcracker|Cooper's Hawk|Cory's Shearwater|
Costa's Hummingbird|Craveri's Murrelet|Forster's Tern|Franklin's Gull|Gambel's Quail|Grace's Warbler|Harris's Hawk|
Harris's Sparrow|Heermann's Gull|Henslow's Sparrow|Hutton's Vireo|Kirtland's Warbler|Lawrence's Goldfinch|
Leach's Storm-Petrel|LeConte's Sparrow|LeConte's Thrasher|Lewis's Woodpecker|Lincoln's Sparrow|Lucy's Warbler|
MacGillivray's Warbler|McCown's Longspur|Merriam's Turkey|Nelson's Sparrow|Nuttall's Woodpecker|Ross's Goose|
Ross's Gull|Rüppell's Vulture|Sabine's Gull|Say's Phoebe|Scott's Oriole|Smith's Longspur|Sprague's Pipit|
Steller's Jay|Swainson's Hawk|Swainson's Thrush|Swainson's Warbler|Townsend's Solitaire|Townsend's Warbler|
Vaux's Swift|Virginia's Warbler|Wilson's Phalarope|Wilson's Snipe|Wilson's Storm-Petrel|Wilson's Warbler|
Woodhouse's Scrub-Jay|Worthen's Sparrow|Xantus's Hummingbird|Dark-eyed Junco|Common Loon|Hermit Thrush|Wood Thrush|
Western Wood-Pewee|Eastern Wood-Pewee|Great Horned Owl|Osprey
"""
FOOD = """
Açaí bowl|Bánh mì|Bánh xèo|Bo bún|Bœuf bourguignon|Bún bò Huế|Bún chả|Café au lait|Cà ri gà|Ceviche|Chả giò|
Chè ba màu|Chili con carne|Coq au vin|Crème brûlée|Crème caramel|Crêpe Suzette|Cơm tấm|Éclair|Fish and chips|
Gỏi cuốn|Gözleme|Jalapeño poppers|Köfte|Kürtőskalács|Lángos|Mac and cheese|Moules-frites|Mì Quảng|Nem rán|
Pâté en croûte|Pão de queijo|Phở|Piña colada|Pirozhki|Pierogi|Quiche Lorraine|Ragoût|Rösti|Salade niçoise|
Sauerkraut|Smørrebrød|Soufflé|Spätzle|Steak and kidney pie|Tacos al pastor|Tête de veau|Tom yum|Töltött káposzta|
Việt quất tart|Vịt quay|Weißwurst|Xôi gấc|Żurek|Łazanki|Gnocchi|Chow mein|Bangers & mash|Sweet & sour pork
"""
PLACES = """
Asunción|Ålesund|Álava|Besançon|Bogotá|Brașov|Brasília|Cádiz|Córdoba|Curaçao|Đà Nẵng|Düsseldorf|Évora|Florianópolis|
Genève|Göteborg|Győr|Hà Nội|Iași|İzmir|Kraków|Łódź|León|Lomé|Malmö|Mérida|Nîmes|Orléans|Plzeň|Poznań|Reykjavík|
Saint-Étienne|San José|São Luís|São Paulo|São Tomé|Tórshavn|Tromsø|València|Wrocław|Yaoundé|Zürich|Århus|Bacău
"""
PLANTS = """
Adenium|amaryllis|anthurium|baby's breath|bear's breeches|bird of paradise|bird's-foot trefoil|bleeding heart|
cactus|Chinese cabbage|chrysanthemum|clematis|coltsfoot|crocus|Cupid's dart|daisy|devil's claw|dog's tooth violet|
eucalyptus|evening primrose|false indigo|fuchsia|gladiolus|goat's beard|hibiscus|hyacinth|iris|Jacob's ladder|
jack-in-the-pulpit|lady's mantle|lady's slipper|lamb's ear|larkspur|lily of the valley|lion's tail|lotus|
love-in-a-mist|lupin|monkey puzzle|narcissus|nasturtium|Oregon grape|oxalis|peony|phlox|poppy|Queen Anne's lace|
ranunculus|rhododendron|sea holly|shepherd's purse|Solomon's seal|star of Bethlehem|statice|strawberry|sweet potato|
tomato|Venus flytrap|viper's bugloss|water chestnut|wolf's bane|yarrow|zinnia|pak choi|brussels sprout|bok choy|
leaf lettuce
"""
SCRIPTS = """
เสือ|เสื่อ|เสื้อ|ไก่|ไข่|ใกล้|ไกล|ข้าว|ขาว|ข่าว|ปู|ปู่|ม้า|มา|หมา|หมู|ดอกบัว|ดอกกุหลาบ|कमल|कमाल|कमला|गुलाब|मोर|मोरी|
बाघ|बाग|शेर|शेरा|हाथी|हाथ|दिन|दीन|পাখি|পাখা|ஆடு|ஆறு|タイ|ダイ|ハス|バス|パス|锦鲤|鲤鱼|金鱼|ноготок|ноготки|воробей|йод|иод|αετός|
κότα
"""
AIRCRAFT = """
A-10|A300B4|A310|A318|A319|A320|A321|A330-200|A330-300|A340-200|A340-300|A380|ATR-42|ATR-72|An-12|An-124|B-1B|B-2|
B-52|Boeing 707-320|Boeing 717|Boeing 727-200|Boeing 737-200|Boeing 737-800|Boeing 737-900|Boeing 747-400|
Boeing 777-200|C-130|C-17|C-2|C-47|C-5|Cessna 172|Cessna 208|Dassault Rafale|DC-3|DC-6|DC-8|DC-10|DHC-1|DHC-6|
DHC-8-100|E-2|E-7|Embraer E-195|Eurofighter Typhoon|F-4|F-14|F-15|F-16A/B|F-16C/D|F-22|F-35|F-117|F/A-18|F/A-18E/F|
Il-76|Ka-52|Mi-8|Mi-24|MiG-29|MiG-31|MQ-9|P-3|RQ-4|SR-71|Saab 340|Su-24|Su-25|Su-34|Su-57|Tu-22M|Tu-95|Tu-160|U-2|
V-22|XB-70|Yak-130
"""
CARS = """
AM General Hummer SUV 2000|Dodge Ram Pickup 3500 Crew Cab 2010|Dodge Ram Pickup 3500 Quad Cab 2009|
Dodge Ram 1500 Regular Cab 2008|Ram 2500 Crew Cab 2012|HUMMER H2 SUT Crew Cab 2009|HUMMER H3T Crew Cab 2010|
Ford Mustang Convertible 2007|Ford Mustang Coupe 2012|Ford F-150 Regular Cab 2012|Ford F-150 SuperCrew Cab 2012|
Chevrolet Silverado 1500 Extended Cab 2012|Chevrolet Silverado 1500 Hybrid Crew Cab 2012|
Chevrolet Corvette ZR1 2012|Mercedes-Benz E-Class Sedan 2012|Mercedes-Benz E-Class Wagon 2012|
Mercedes-Benz 300-Class Convertible 1993|Land Rover Range Rover SUV 2012|Rolls-Royce Phantom Sedan 2012|
Aston Martin V8 Vantage Coupe 2012|Audi A4 Sedan 2012|Audi S4 Sedan 2012|Audi S4 Sedan 2007|Audi TT Coupe 2011|
Audi TTS Coupe 2012|Audi A6 Avant Wagon 2011|Lexus ES Sedan 2013|Lexus RX SUV 2013|Kia Soul Hatchback 2013|
Subaru Outback Wagon 2014|Subaru Forester SUV 2014|Peugeot 206 Hatchback 2004|Peugeot 207 Hatchback 2008|
Citroën C4 Hatchback 2010|Škoda Octavia Wagon 2014|Chrysler Town & Country Minivan 2012|
Volkswagen Beetle Hatchback 2012|Toyota Land Cruiser SUV 2009|Mini Cooper S Hatchback 2013
"""
NAMES = {
    kind: [name.strip() for name in text.replace("\n", "").split("|")]
    for kind, text in (
        ("birds with possessives", BIRDS),
        ("dishes with accents", FOOD),
        ("places", PLACES),
        ("plants", PLANTS),
        ("other scripts", SCRIPTS),
        ("aircraft without makers", AIRCRAFT),
        ("cars of other makers", CARS),
    )
}
MAKERS = [
    maker.strip()
    for maker in """
AM General|Acura|Airbus|Aston Martin|Audi|BAE|BMW|Beechcraft|Bentley|Boeing|Bugatti|Buick|Cadillac|Cessna|Chevrolet|
Chrysler|Citroën|Daewoo|Dodge|Dornier|Eagle|Embraer|Eurofighter|FIAT|Ferrari|Fisker|Fokker|Ford|GMC|Geo|Gulfstream|
HUMMER|Honda|Hyundai|Infiniti|Isuzu|Jaguar|Jeep|Kia|Lamborghini|Land Rover|Lexus|Lincoln|MINI|Maybach|Mazda|McLaren|
Mercedes-Benz|Mini|Mitsubishi|Nissan|Peugeot|Plymouth|Porsche|Ram|Rolls-Royce|Saab|Scion|Spyker|Subaru|Suzuki|Tesla|
Toyota|Volkswagen|Volvo|smart|Škoda
""".replace("\n", "").split("|")
]
NOUNS = {
    "aircraft": ("aircraft", "plane", "airplane"),
    "bird": ("bird",),
    "car": ("car", "vehicle"),
    "dog": ("dog", "dog breed"),
    "flower": ("flower", "plant"),
    "pet": ("cat", "dog"),
    "birds with possessives": ("bird", "bird species"),
    "dishes with accents": ("dish", "food"),
    "places": (),
    "plants": ("plant", "flower"),
    "other scripts": (),
    "aircraft without makers": ("aircraft", "jet"),
    "cars of other makers": ("car", "vehicle"),
}
# What each maker built, by what its designations begin with.
BUILT = {
    maker: tuple(starts.split("|"))
    for maker, starts in {
        "Boeing": "707|717|727|737|747|757|767|777|B-52|E-7",
        "Airbus": "A300|A31|A32|A33|A34|A38",
        "ATR": "ATR",
        "Antonov": "An-",
        "British Aerospace": "BAE|Hawk",
        "Beechcraft": "Beechcraft|Model B200",
        "McDonnell Douglas": "DC-|MD-|C-17|F-15|F-4|F/A-18",
        "Douglas": "C-47|DC-3|DC-6|DC-8",
        "Lockheed": "C-130|C-5|L-1011|P-3|SR-71|U-2|F-117|F-22",
        "Lockheed Martin": "C-130|F-16|F-22|F-35",
        "General Dynamics": "F-16",
        "Bombardier": "CRJ|Challenger|Global|DHC-8",
        "Cessna": "Cessna",
        "de Havilland": "DH",
        "Robin": "DR",
        "Dornier": "Dornier",
        "Embraer": "E-1|EMB|ERJ|Embraer",
        "Eurofighter": "Eurofighter",
        "Dassault": "Falcon",
        "Fokker": "Fokker",
        "Gulfstream": "Gulfstream",
        "Ilyushin": "Il-",
        "Fairchild": "Metroliner|A-10",
        "Piper": "PA-",
        "Cirrus": "SR-20",
        "Saab": "Saab",
        "Supermarine": "Spitfire",
        "Panavia": "Tornado",
        "Tupolev": "Tu-",
        "Yakovlev": "Yak-",
        "Mil": "Mi-",
        "Mikoyan": "MiG-",
        "Sukhoi": "Su-",
        "Kamov": "Ka-",
        "Grumman": "F-14|E-2|C-2",
        "Northrop Grumman": "B-2|RQ-4",
        "Bell": "V-22",
    }.items()
}
# Scientific names, as they stand in parentheses after a common one.
SCIENTIFIC = """
Passer domesticus|Troglodytes aedon|Sterna hirundo|Geothlypis trichas|Chlidonias niger|Megaceryle alcyon|
Calypte anna|Cyanocorax yncas|Podiceps nigricollis|Bombycilla cedrorum|Dryobates pubescens|Hirundo rustica|
Mareca strepera|Dolichonyx oryzivorus|Fulmarus glacialis|Corvus brachyrhynchos|Archilochus colubris|
Setophaga coronata|Spinus tristis|Larus argentatus|Thalasseus elegans|Aechmophorus occidentalis|
Fratercula corniculata|Gavia pacifica|Anas platyrhynchos|Spizella passerina|Cardinalis cardinalis|Passerina cyanea|
Sayornis phoebe|Dumetella carolinensis|Coccyzus americanus|Piranga olivacea|Pica pica|Bubo bubo|Turdus merula|
Corvus corax|Grus grus|Upupa epops|Phoenicopterus roseus|Papilio machaon|Danaus plexippus|Vanessa cardui|
Amanita muscaria|Quercus robur|Pinus sylvestris|Betula pendula|Acer saccharum|Ilex aquifolium|Buteo jamaicensis|
Falco peregrinus|Strix varia|Tyto alba|Colaptes auratus|Zonotrichia albicollis|Junco hyemalis|Melospiza melodia|
Pipilo maculatus|Icterus galbula|Mimus polyglottos|Molothrus ater|Haemorhous mexicanus|Baeolophus bicolor|
Poecile atricapillus|Sitta carolinensis|Certhia americana|Regulus satrapa|Tachycineta bicolor|Anser anser|
Cygnus olor|Apus apus|Vulpes vulpes|Panthera leo|Panthera tigris|Equus caballus|Bos taurus|Sus scrofa|
Rattus norvegicus|Orcinus orca|Puma concolor|Canis lupus familiaris|Felis catus|Rosa × hybrida|Antirrhinum majus|
Digitalis purpurea|Helianthus annuus|Tropaeolum majus|Lathyrus odoratus|Iris germanica|Rudbeckia hirta|
Dianthus barbatus|Hibiscus rosa-sinensis|Convallaria majalis|Anthurium andraeanum|Nelumbo nucifera|Aloe vera|
Ginkgo biloba|Cosmos bipinnatus|Zea mays|Allium cepa|Citrus sinensis|Tulipa gesneriana|Strelitzia reginae|
Bellis perennis|Taraxacum officinale|Papaver rhoeas|Primula vulgaris|Protea cynaroides|Myosotis sylvatica|
Camellia japonica|Hippeastrum striatum|Pelargonium zonale|P. domesticus|Cardinalis c. cardinalis
"""
SCIENTIFIC_NAMES = [name.strip() for name in SCIENTIFIC.replace("\n", "").split("|")]
# What stands in parentheses too, and is no scientific name.
ASIDES = [
    "probably", "maybe", "not sure", "Not sure", "Best guess", "I think", "possibly", "or similar", "Maybe not",
    "uncertain", "could be wrong", "Other options", "Maybe others", "just a guess", "if adult", "male?", "not certain",
    "not this", "Unless mistaken", "Some other", "not really", "or not", "Golden retriever", "Irish setter", "unsure",
    "Perhaps younger", "No idea", "wrong", "Please accept", "the label", "specific", "correct answer", "as labelled",
]  # fmt: skip
