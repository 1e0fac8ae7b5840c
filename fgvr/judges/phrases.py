"""The words by which an answer is known for something else than one name: abstention, a list, talk about the answer."""

from __future__ import annotations

import re

from fgvr.taxonomy.lexicon import Written


def _words(text: str) -> frozenset[str]:
    return frozenset(Written.of(text).words)  # as the words of an answer are read


# Matched against the whole normalised answer (so "don't" is "dont" and "N/A" is "n a"); several of them may follow each
# other. What the classes are called as a whole ("bird") is read as "thing".
_RANK = "(?:species|genus|family|order|breed|variety|cultivar|type|kind|make|maker|model|variant|class|name|identity)"
_KIND = r"""(?:things?|object|item|subject|animal|bird|dog|cat|pet|fish|insect|reptile|mammal|plant|flower|tree|mushroom
    |fungus|aircraft|air\ plane|airplane|aeroplane|plane|car|vehicle|truck|food|dish|meal)"""
_THING = rf"(?:(?:an?|the|this|that|its|any|exact|specific|precise)\ )*(?:{_RANK}\ of\ (?:the\ |this\ )?)?" + (
    rf"(?:{_KIND}\ {_RANK}|{_KIND}|{_RANK})"
)
# The longest first, as the first that fits is kept.
_WHICH = rf"(?:(?:what|which)\ (?:{_THING}\ )?(?:it|this|that)(?:\ {_KIND})?\ is|{_THING}|it|this|that|which)"
_FROM = r"""(?:\ (?:from|in|based\ on|given)\ (?:this|the|that)(?:\ given|\ provided)?
    \ (?:photo|photograph|image|picture)(?:\ alone)?|\ with\ (?:certainty|confidence))?"""
_VERB = r"(?:tell|say|see|determine|identify|recogni[sz]e|name|classify)"
_PHRASE = rf"""(?:
    none (?:\ of\ (?:the\ above|these|them))? | abstain | idk | n\ a | no\ (?:answer|idea) | i\ have\ no\ idea
    | null | nothing | not\ applicable
    | (?:(?:an?|the)\ )? (?:unknown|unidentified|undetermined|unrecogni[sz]ed|unidentifiable|indeterminate)
      (?:\ {_THING})?{_FROM}
    | unsure | uncertain | unclear
    | (?:(?:i\ am|im)\ )? not\ (?:sure|certain|identifiable)(?:\ {_WHICH})?{_FROM}
    | (?:i\ )? (?:do\ not|dont)\ know(?:\ {_WHICH})?{_FROM}
    | (?:(?:sorry|im\ sorry|i\ am\ sorry)\ )? (?:(?:i|we)\ )? (?:(?:am|im)\ )?
      (?:cannot|can\ not|cant|could\ not|couldnt|unable\ to|not\ able\ to|(?:impossible|hard|difficult)\ to)
      \ {_VERB} (?:\ {_WHICH})?{_FROM}
    | (?:{_WHICH}\ )? (?:cannot|can\ not|cant|could\ not|couldnt)\ be\ (?:determined|identified|recogni[sz]ed){_FROM}
    | (?:insufficient|not\ enough|too\ little)\ (?:information|info|details?|data|evidence)
      (?:\ to\ {_VERB}(?:\ {_WHICH})?)?{_FROM}
    )"""
# Atomic, for a phrase that can be read in two ways takes exponential time when it stands many times over.
ABSTENTION = re.compile(rf"(?>{_PHRASE}\b)(?:\ (?>{_PHRASE}\b))*+", re.VERBOSE)
NO_WORD = re.compile(r"[\s?\-‐‑‒–—]*")  # a blank, a dash, a question mark

WITHIN_ASIDE = re.compile(r"([^()]*[^()\s])\s*\(([^()]+)\)([^()]*)")  # "Yellow-rumped (Myrtle) Warbler" as well
# "Cardinalis cardinalis", "C. cardinalis", a subspecies; and the names of families and orders.
SCIENTIFIC = re.compile(
    r"(?:[^\W\d_]+(?:us|a|um|is|es|as|os|ops|[iy]s|x|o|ion|sser|nser|iter|ys|en)|[^\W\d_]\.)"
    r"(?: [^\W\d_]+(?:us|a|um|is|i|ae|ns|x|es|os|ior|jor|nor|lor|tor|ense|[^h]ale|are)){1,2}"
    r"|[^\W\d_]{3,}(?:idae|inae|aceae|oideae|formes|ales)",
    re.IGNORECASE,
)
BINOMIAL = re.compile(r"[A-Z](?:[a-zà-ÿ]+|[a-z]?\.)(?: ×| x)?(?: [a-zà-ÿ]+(?:-[a-zà-ÿ]+)*){1,2}")  # by its capital
MODEL = re.compile(r"(?:an? |the )?(?:[a-z]{1,2}-\d{2,4}|\d{3}-\d{1,3})", re.IGNORECASE)  # Il-76, 707-320, 747-8
# What is neither a name nor a model's number: "aZZb", "spec1fic", "5pecific", "0x73".
CODED = re.compile(r"^[a-z]+[A-Z]{2,}[a-z]|[^\W\d]{3}\d[^\W\d]{2}|^\d[^\W\d]{7}|^0x\d")
YEAR = re.compile(r"(?:19|20)\d\d")
NUMBERED = re.compile(r"(?:^|[\s(\[])(?:(?P<n>\d{1,2})[.):\]]|(?P<c>[a-z]|[ivx]{1,4})[):\]])(?=\D)", re.IGNORECASE)
LETTERED = re.compile(r"(?:^|\s)(?:a[.:] .*\sb[.:] |1 \D.*\s2 \D)", re.IGNORECASE | re.DOTALL)

# Words of talk about the answer, of which no name is made: wherever they stand, the text is no name.
JUDGING = _words(
    """
    verdict verdicts score scores scored scoring rating rated graded grader grading rubric criterion criteria judge
    judged judgement judgment evaluator evaluation evaluate reward rewards credit specific specifique specifically
    specificity generic category categories categorize classify classification classified label labels labelled labeled
    groundtruth truth truthful prediction predictions predicted predict reference references expected correct correctly
    correctness incorrect wrong accurate accurately valid validated invalid match matched matching mismatch equal equals
    equivalent identical same synonym synonyms synonymous matches exact exactly approve approved accept accepted
    verified confirmed agree agreed aforementioned compare comparison similarity relation relationship subtype subclass
    lenient generous legit legitimate argmax softmax logit accuracy precision recall unspecific nonspecific certified
    guaranteed concur correto correctement
    """
)
REASONING = _words(
    """
    answer answers answered answering solution solutions solve solved solves solving problem problems question questions
    thought thoughts thinking think reasoning reason reasons explanation explain explained analysis analyze conclusion
    therefore thus hence certainly definitely absolutely obviously clearly confidence confident probability percent
    certainty suppose assume assuming assumption definition generality summarize summarise summary conclude concluded
    concluding finally ultimately initially derive derived theorem lemma corollary calculate compute examine inspect
    observe recall latter former likewise consensus unanimous majority caption metadata exif pixel pixels blurry
    resolution unspecified detected recognized recognised maybe perhaps possibly probably likely presumably apparently
    might unsure uncertain guess believe trust considered based feature features characteristics appears
    appearance looks seems identify identified identification description depicted depicts shown visible photo picture
    image images according regardless whether
    """
)
INSTRUCTING = _words(
    """
    instruction instructions instructed instruct ignore ignored ignoring disregard override bypass previous previously
    above following prompt prompts system assistant user developer admin jailbreak output outputs respond response reply
    json xml html yaml boolean const token tokens variable function parameter undefined placeholder redacted assert
    endoftext lorem ipsum http https www request requested task tasks option options choice choose chosen
    selected example error errors exception timeout retry abort mistake please let lets sorry thank thanks password
    """
)
SENTENCE = _words(
    """
    is isnt are was were been have has had should shall must would could did does dont doesnt cannot cant it its this
    that these those you your yours yourself we they them their which what who whom whose when where why how if then
    than else but because as there here very just only also any every each multiple several various etc etcetera
    anything something nothing whatever whichever always never whereas
    """
)
ELSEWHERE = _words(  # in other languages
    """
    respuesta solucion solución pensamiento correcto correcta específico reflexión etapa vamos resolver antwort lösung
    losung lösen richtig spezifisch denkprozess schritt gedanken ignoriere réponse reponse juste vrai spécifique
    réflexion reflexion étape résolvons résoudre ignorez problème risposta soluzione corretto corretta giusto esatto
    certo specifico pensiero ignora resposta solução solucao problema ответ решение мысли шаг решим задача правильно
    верно конкретный odpowiedź odpověď rozwiązanie cevap çözüm svar løsning vastaus jawaban antwoord oplossing válasz
    verdadero correkt korrekt mismo même dasselbe stesso mesmo gleich gleiche igual pareil uguale identique idéntico
    identisch idem идентично самое
    """
)
# Those of them that are looked for misspelt too.
CORE = _words(
    """
    specific specifically generic correct correctly incorrect verdict solution prediction category instruction
    instructions reasoning identical synonym explanation reference thought problem expected accurate
    """
)
TALK = JUDGING | REASONING | INSTRUCTING | SENTENCE | ELSEWHERE
# Words that names hold too ("True Owls", "Great Crested Flycatcher"): only of these, with or without numbers, none is.
FILLERS = _words(
    """
    a an the of in on at for from to with without by and not no up out so all one two three four five six seven eight
    nine ten hundred thousand first second third last final next both many much more less most least some other another
    same such own even quite rather really too well still yet again now i me my he him she her our us do go see be get
    yes yep yeah yup true false ok okay right sure good great nice fine perfect excellent bravo best top full max
    maximum indeed positive negative affirmative null nil nan void default none done wow yay hooray hm hmm um uh er meh
    lol haha amen voila bingo eureka abracadabra checkmate hello hi hey alright please main given common scientific
    closest nearest finer close hidden secret important bonus open magic deep human expert experts honest whole entire
    simple easy ready species genus family order class subspecies type kind sort form name names named called title
    object item thing things stuff child parent descendant ancestor neighbor neighbour alias list set group step steps
    process note notes details subject target input text word words string number key master level rank tier gold mark
    marks point points pass passed win winner success status test tests testing sample comment result results value goal
    fact proof warning notice access mode root code data file line end begin start continue summary breath say says said
    print return exit skip check stop wait consider take give make find sounds means firstly secondly lastly overall
    basically actually essentially naturally understood course qed ans soln sol eos foo bar baz asdf qwerty abc xyz blah
    tbd todo ditto idem jackpot oracle roger dan sudo boxed im gt ground language model bool prob grade reverse oui si
    sí ja да нет wahr verdad lgtm nb ps p fyi imho omg wtf pls plz thx kthx ty viz cf inf infinity zero high higher
    highest low lower strong found exists present mirror look official proper real actual nickname after stars star
    thumbs vote cum laude import lo le el o das der die alt img jpg jpeg png auc f1 top1 xd echo was hallelujah
    sesame conf unknown unidentified select everything s t ll re ve d m
    """
)
PHRASES = re.compile(
    r"\b(?:ground truth|gold standard|step by step|(?:final|true|right) (?:answer|label|name|one)|full marks"
    r"|i (?:am|m|do|think|believe|would|will|can|see|say|guess|have)|forget (?:all|everything|about|the|your|any|what)"
    r"|do not|give me|out of|pas[os]o? a pas[os]o?)\b|\b(?<!me )not\b"
)
# Languages that write without spaces: these are looked for anywhere, and the short ones as the whole answer.
TALK_WITHIN = re.compile(
    "解答|解析|解説|解说|解释|解釋|解決|解决|答案|答え|回答|正解|正确|正確|思考|考え|考察|推理|分析|过程|過程|首先|让我们|讓我們|"
    "步骤|步驟|一步|问题|問題|标签|標籤|忽略|无视|無視|指令|指示|具体|特定|同じ|同上|相同|一样|一樣|같은|分类|かいせつ|かいとう|こたえ|せいかい|まず|"
    "정답|해설|풀이|답변|정확|무시|문제|생각|단계|구체적|الجواب|الحل|الإجابة|उत्तर|समाधान|คําตอบ|đáp án",
    re.IGNORECASE,
)
TALK_WHOLE = _words("解 答 是 对 對 是的 对的 はい うん 네 예 답 نعم हाँ")
EITHER = _words("or vs versus either neither nor both oder ou oppure eller lub или atau veya aka alias")
BETWEEN = _words("maybe perhaps possibly probably likely alternatively otherwise then plus")
ALSO = _words("and und et och og dan и")
SHORT_ALSO = frozenset(("o", "y", "e", "u", "l", "I"))  # as written
WITHIN = re.compile(r"或|または|もしくは|또는|혹은|\b(?:e\.g|i\.e|a\.k\.a)\b", re.IGNORECASE)
# Of two of these, "and" makes one name, with a further word: "black and white warbler", "sweet and sour pork".
PAIRED = _words(
    """
    black white blue yellow red green orange brown grey gray tan gold golden buff buffy rufous chestnut silver purple
    pink violet crimson scarlet olive cinnamon cream ivory turquoise sweet sour hot salt pepper
    """
)
# With a full stop after them, which ends no sentence; so do the letters without a vowel, "mk", "dr", "ltd".
ABBREVIATIONS = _words("ste no var subsp aff conv ed gen ser co inc bros mod auto capt gov vol ver ex subg sect hort")
VOWELLESS = re.compile("[bcdfghjklmnpqrstvwxz]{1,5}", re.IGNORECASE)
LEADS = tuple(
    tuple(lead.split())
    for lead in ("this is", "it is", "its", "a photo of", "photo of", "a picture of", "an image of", "image of")
)
ASIDES = _words("male female juvenile adult immature breeding nonbreeding domestic wild")
