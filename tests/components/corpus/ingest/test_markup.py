import pytest

from bertline.components.corpus.ingest.markup import (
    clean_paragraphs,
    free_titles_with_colons,
    prepare_wikitext,
    templates_to_text,
)


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("It is {{convert|8848|m|ft|0}} high.", "It is 8848 m high."),
        ("It is {{cvt|10|to|20|km|mi}} long.", "It is 10 to 20 km long."),
        ("the {{lang|fr|Le Monde}} ({{lang-fr|link=no|le monde}})", "the Le Monde (le monde)"),
        ("{{nowrap|a [[b|c]] d}}!", "a [[b|c]] d!"),
        ("{{quote|text=To be.|author=Hamlet}}", "To be."),
        ("le {{date|11|novembre|1866}} au {{s-|XIX|e}}", "le 11 novembre 1866 au XIXe siècle"),
        ("{{formatnum:1234}}", "1234"),
        ("{{Infobox|a={{flag|x}}|b={{nowrap|y}}}}Text{{citation needed}}.", "Text."),
        ("unbalanced {{a|b and }} c", "unbalanced  c"),
        ("unbalanced {{a|b", "unbalanced {{a|b"),
    ],
)
def test_templates_become_their_words_or_nothing(wikitext, text):
    assert templates_to_text(wikitext) == text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("a<ref>b {{c}}</ref> c<ref name=x /> d", "a c d"),
        ("a <ref>never closed, b <ref>c</ref> d", "a <ref>never closed, b  d"),
        ("a<!-- b\n -->c", "ac"),
        ("l'''Amleto'' di ''Shakespeare'', '''forte''' e '''''tutto'''''", "l'Amleto di Shakespeare, forte e tutto"),
        ("-{zh-hans:联邦州; zh-hant:邦}-之一", "联邦州之一"),
        ("-{T|zh:a;zh-tw:b}-甲-{乙}-", "甲乙"),
        ("run <code>ls -l</code> now <code>a\nb</code>.", "run ls -l now ."),
        ("where <math>x^{2}</math> is", "where formula_0 is"),
        ("<syntaxhighlight lang=c>int i;</syntaxhighlight>a", "a"),
    ],
)
def test_wikitext_is_prepared(wikitext, text):
    assert prepare_wikitext(wikitext) == text


def test_titles_with_colons_survive_and_files_stay_links():
    text = (
        "[[Star Trek: Picard]], [[2001: A Space Odyssey|2001]], [[File: a.jpg]], [[Datei: b.jpg|mini]], [[de:Berlin]]"
    )
    assert free_titles_with_colons(text, {"file", "datei"}) == (
        "Star Trek: Picard, 2001, [[File: a.jpg]], [[Datei: b.jpg|mini]], [[de:Berlin]]"
    )


@pytest.mark.parametrize(
    ("line", "paragraph"),
    [
        ("Albedo () is a measure.", "Albedo is a measure."),
        ("Albedo (;) is a measure.", "Albedo is a measure."),
        ("Albedo (, from Latin, ) is a measure.", "Albedo (from Latin) is a measure."),
        ("Albedo ((), ) is a measure.", "Albedo is a measure."),
        ("柏林（）是首都，（，德语）也是城市。", "柏林是首都，（德语）也是城市。"),
        (
            "Here formula_12 is the albedo, and that is how it is called by all who know what to call it so, codice_3.",
            "Here is the albedo, and that is how it is called by all who know what to call it so.",
        ),
        ("It is bright.[12] So it is. [3]", "It is bright. So it is."),
        ("a &lt;b&gt; &amp; c<br/>&nbsp;d.", "a & c d."),
        ("• It stands in a list.", "It stands in a list."),
        ('The film "" won, and ""Ben Hur" lost.', 'The film won, and "Ben Hur" lost.'),
        ("The site (http://www.cpan.org/) is old.", "The site is old."),
        ("formula_1, formula_2 and formula_3", None),
        ("https://www.example.org/a/b/c", None),
        ("Zapopan, Jalisco, Mexico, 2011", None),
        ("Its tributaries are the following:", None),
        ('! colspan=9 bgcolor="#B0D3FB" | Total of all the medals that were won.', None),
        ("A table that lost its end |} is here, and this is no prose at all.", None),
        ("if (instance == null) {", None),
        ("<br/>", None),
        ("* * *", None),
        ("ベルリンには7つのオーケストラがある", None),
    ],
)
def test_lines_are_cleaned_or_dropped(line, paragraph):
    assert clean_paragraphs([line]) == ([] if paragraph is None else [paragraph])


@pytest.mark.parametrize(
    "unit", ["(", ",", '"', "[", "<ref>", "{{a|", "[[", "''", " ", "x", "-{", "* ", "a b ", "<math>"]
)
def test_a_long_line_takes_linear_time(unit):
    line = unit * (300_000 // len(unit))
    clean_paragraphs([line, line + "."])
    prepare_wikitext(line)
    free_titles_with_colons(line, {"file"})
