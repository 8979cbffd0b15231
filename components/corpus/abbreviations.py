"""What a sentence splitter knows of words: abbreviations, and words that begin sentences.

An entry in lower case stands for any spelling of the word, another one for itself alone: "Sun." is a day
of the week, "sun." the end of a sentence.
"""


def _table(words: str) -> frozenset[str]:
    return frozenset(words.split())


# A full stop after these never ends a sentence: a name, a number or the rest of the phrase follows.
ABBREVIATIONS = _table(
    "mr mrs ms dr prof Rev Hon Gen Col maj capt cmdr lt sgt cpl Adm Gov Sen Rep Pres messrs mme mlle Mt Ft Fr "
    "Insp Supt vs cf viz approx ca e.g i.e figs eqs vols pp eds arts chap univ assn dept resp "  # English
    "bzw bspw evtl ggf sog vgl zzt gest hrsg abb z.b d.h u.a o.ä p.ex m.m env "  # German, French
    "sigg Sig Dott dott avv cfr pagg sra srta Dña sto núm págs "  # Italian, Spanish, Portuguese
    "св ул им гг вв рис стр напр т.е "  # Russian
)

# After these a sentence ends only if a word follows that begins sentences: "He left the U.S. The war went on."
# (Any acronym or initial is treated so, without standing here.)
ENDING_ABBREVIATIONS = _table(
    "St Ste inc ltd Co corp bros etc al jr sr esq seq ibid nos vol fig eq ch ed op est a.m p.m ph.d b.sc m.sc "
    "Ave Blvd Rd Dist Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri Sat "
    "Sun sq km kg cm mm oz lb lbs hr hrs yr yrs usw ecc geb jh jhd nr tel pag тыс млн млрд т.д т.п др"
)

# Words that are abbreviations before a number: "no. 5", "art. 3".
BEFORE_NUMBERS = _table("no art sec ver cap")

# Words that begin many sentences and few names.
STARTERS = _table(
    "the a an he she it they we i you his her its their our my your this that these those there here in on at "
    "if but and or so when while after before for as to what who whose where how why then thus hence however "
    "although though because since with without from by once one two three some most all many both each every "
    "several another such other during under over between according despite until unlike like yes no well now "
    "today later also even only just he's she's it's that's there's they're we're i'm i'll i've you're don't "
    "didn't les il elle ils elles un une ce cette ces dans en una uno nel nella der die das ein eine er sie es "
    "в на он она они это после при по с из и но его до для как также среди"
)

# "am 3. Mai", "im 19. Jahrhundert": in German a number with a full stop is an ordinal.
AFTER_ORDINALS = _table(
    "januar jänner februar märz april mai juni juli august september oktober november dezember jahrhundert "
    "jahrhunderts jahrtausend jh jhd armee division"
)

# "What?" Sara asked. - after these the sentence goes on behind the quotation.
SPEECH_VERBS = _table(
    "said asked cried replied answered exclaimed repeated inquired enquired demanded whispered murmured "
    "muttered shouted returned continued observed remarked added called gasped screamed sighed echoed begged "
    "says asks"
)
