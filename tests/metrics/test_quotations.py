"""What a prompt quotes: by hand, in every mark that prompts use; nothing that can be read in two ways."""

from __future__ import annotations

import pytest

from vtbench.metrics.quotations import NO_QUOTE, quotation

READ = [
    ('a sign that says "Open  late"', "Open late"),
    ('A sign that says "OPEN" next to a sign that says "CLOSED"', "OPEN CLOSED"),
    ("text 'A', 'B' and 'C'", "A B C"),
    ('"A""B"', "A B"),
    ("A storefront with 'Hello World' written on it.", "Hello World"),
    ("'NeurIPS' written on a wall", "NeurIPS"),
    ("a sign 'Boys' and a sign 'Girls' at school", "Boys Girls"),
    # angular
    ("a sign that says ‹HALT›", "HALT"),
    ("a sign that says « OUVERT »", "OUVERT"),
    ("a board »HALT« und ›ZU‹", "HALT ZU"),
    # German, Polish, Swedish
    ("a board „HALT“ und „ZU“", "HALT ZU"),
    ("a board ‚HALT‘", "HALT"),
    ('a board „HALT"', "HALT"),
    ("szyld „OTWARTE”", "OTWARTE"),
    ("en skylt ”ÖPPET”", "ÖPPET"),
    # Chinese and Japanese
    ("写着「营业中」的招牌", "营业中"),
    ("看板『営業中』", "営業中"),
    ("书《三体》", "三体"),
    ("写着“开业”的招牌", "开业"),
    ('写着"开业"的招牌和"OPEN"', "开业 OPEN"),
    ("写着'开业'的招牌", "开业"),
    ("「営業中」と『本日休業』", "営業中本日休業"),
    ("＂OPEN＂ sign", "OPEN"),
    # curly
    ("a sign “Open”, at night", "Open"),
    ("a sign ‘Don’t walk’", "Don’t walk"),
    ("❝HELLO❞", "HELLO"),
    # backticks, LaTeX, typed accents
    ("a screen with `print(1)` on it", "print(1)"),
    ("a screen with ```print(1)``` on it", "print(1)"),
    ("a title ``Deep Learning''", "Deep Learning"),
    ("a title ''Deep Learning''", "Deep Learning"),
    ("it´s ´OPEN´", "OPEN"),
    # escaped
    (r"a sign that says \"OPEN\" and \"SHUT\"", "OPEN SHUT"),
    (r"a sign that says \'OPEN\'", "OPEN"),
    (r'a sign that says "He said \"hi\""', 'He said "hi"'),
    # marks inside
    ("a sign \"it's 'OPEN' now\"", "it's 'OPEN' now"),
    ("a sign 'He said \"hi\"'", 'He said "hi"'),
    ("看板「a『b』c」と", "a『b』c"),
    # apostrophes
    ("a sign that says 'DON'T WALK'", "DON'T WALK"),
    ("don't walk sign that says 'STOP'", "STOP"),
    ("don’t forget “MILK”", "MILK"),
    ('don`t say "HI"', "HI"),
    ("O'Reilly's book 'Learning'", "Learning"),
    ("l'été sign 'OUVERT'", "OUVERT"),
    ("a poster saying 'rock 'n' roll'", "rock 'n' roll"),
    ("a rock 'n' roll poster saying 'LIVE'", "LIVE"),
    ("rock ‘n’ roll “LIVE”", "LIVE"),
    ("the dogs' bowl labelled 'REX'", "REX"),
    ("a bowl labelled 'REX' beside the dogs' bed", "REX"),
    ('the dogs’ bowl "REX"', "REX"),
    ("a ol' sign \"SALOON\" and swingin'", "SALOON"),
    ("a '90s diner with a sign 'EAT'", "EAT"),
    ("a ‘90s diner with “EAT”", "EAT"),
    ("a banner '90s Night'", "90s Night"),
    ('\'tis the season card that says "JOY"', "JOY"),
    # feet and inches
    ('12" vinyl record labelled "BLUE"', "BLUE"),
    ("12'' vinyl record labelled 'BLUE'", "BLUE"),
    ('a 12 " vinyl "BLUE"', "BLUE"),
    ("5'10\" man holding 'HI'", "HI"),
    ("a 6' tall man in a 'HELLO' shirt", "HELLO"),
    ('5"x7" print of "HI"', "HI"),
    ('a 12" record labelled "BLUE" and a 7" one labelled "RED"', "BLUE RED"),
    ('a sign "Route 66" and a sign "Route 67"', "Route 66 Route 67"),
    ('a 7" single titled "45"', "45"),
    ('a 12″ record "A", 5′10″ tall', "A"),
    ('3½" disk labelled "GAMES"', "GAMES"),
    # as pages, tables and programs write marks
    ("a sign that says &quot;OPEN&quot;, a dog&#39;s &ldquo;SHUT&rdquo;", "OPEN SHUT"),
    ("&laquo;OUVERT&raquo; &amp; caf&eacute;", "OUVERT"),
    ("a sign that says &#x2018;OPEN&#8217;", "OPEN"),
    (r"a sign that says \u201cOPEN\u201d", "OPEN"),
    (r"a sign \u300c営業中\u300d", "営業中"),
    ('a sign that says ""OPEN"" and ""SHUT""', "OPEN SHUT"),
    ('a sign that says """24 h"""', "24 h"),
    # between signs, spaces and nothing
    ('**"OPEN"**, ("SHUT"):"NOW"', "OPEN SHUT NOW"),
    ('a sign " OPEN " here', "OPEN"),
    ('says"OPEN"now', "OPEN"),
    ('don\u2060\'t "\u200bHI\u00ad"', "HI"),
    ('שלט "פתוח"', "פתוח"),
]
UNCLEAR = [
    # unbalanced
    'a sign "OPEN and a door',
    'a sign OPEN" and a door',
    'a sign "OPEN and a sign "CLOSED"',
    'a sign "OPEN" and a sign CLOSED"',
    "a sign “OPEN and a door",
    "a sign OPEN” and a door",
    "a sign “OPEN and “CLOSED”",
    "a sign 'OPEN and a door",
    "a sign OPEN' and 'CLOSED'",
    '写着"开业和"关门"',
    "写着「营业中的招牌",
    "a sign with `code",
    "a board HALT“",
    # two ways
    'a sign reading "12" vinyl sale"',
    "a sign 'the dogs' bowl'",
    "a sign ‘the dogs’ bowl’",
    'the text "I\'m 5\'10" tall"',
    "a 'vintage' poster that says \"SALE\"",
    "a ‘vintage’ poster that says “SALE”",
    'a terminal with `ls` and a label "HOME"',
    "en skylt ’ÖPPET’ och “STÄNGT”",
    # once or twice, nothing, all of it
    'sign "OPEN" and the word "OPEN" in red',
    'a sign that says ""',
    'a sign that says "\u200b"',
    "\"a sign that says 'OPEN'\"",
]
NONE = [
    "it's a dog's life",
    "a poster: rock 'n' roll",
    "the '90s and the dogs' bowl",
    'a 27" monitor',
    'צה"ל וגם ארה"ב',
    "",
]


@pytest.mark.parametrize(("prompt", "truth"), READ)
def test_read(prompt: str, truth: str) -> None:
    assert quotation({"prompt": prompt}).text == truth


@pytest.mark.parametrize("prompt", UNCLEAR)
def test_what_is_unclear_is_not_read(prompt: str) -> None:
    unclear = quotation({"prompt": prompt})
    assert unclear.text == ""
    assert unclear.why is not None
    assert unclear.why.endswith("state the string as the prompt's metadata.quote")


@pytest.mark.parametrize("prompt", NONE)
def test_no_quotation(prompt: str) -> None:
    assert (quotation({"prompt": prompt}).text, quotation({"prompt": prompt}).why) == ("", NO_QUOTE)


def test_metadata_say_it_themselves() -> None:
    assert quotation({"prompt": 'says "no"', "quote": " y\u200bes "}).text == "yes"
    assert quotation({"prompt": 'unbalanced "', "quote": ["OPEN", "24 h"]}).text == "OPEN 24 h"
    assert quotation({"quote": 12}).text == "12"
    for bad in ({"a": 1}, [["x"]], True):
        assert "wanted a string" in str(quotation({"quote": bad}).why)
    assert "nothing that can be seen" in str(quotation({"quote": "\u200b"}).why)
    assert quotation(None).why == NO_QUOTE
