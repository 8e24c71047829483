import pytest

from prelabel.phrases.inflection import singular_and_plural_forms
from prelabel.phrases.marks import strip_marks_and_article
from prelabel.phrases.normal_forms import joined_form, normal_form
from prelabel.phrases.plain_words import to_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("traffic_light", "traffic light"),
        ("traffic-light", "traffic light"),
        ("TrafficLight", "Traffic Light"),
        ("trafficLight", "traffic Light"),
        ("trafficlight", "traffic light"),
        ("trafficlights", "traffic lights"),
        ("TRAFFICLIGHT", "TRAFFIC LIGHT"),
        ("TVStand", "TV Stand"),
        ("redcar", "red car"),
        ("semi-truck_2", "semi truck 2"),
        ("a__b", "a b"),
        ("", ""),
    ],
)
def test_identifiers_are_taken_apart(name: str, words: str) -> None:
    assert to_words(name) == words


@pytest.mark.parametrize(
    "name",
    [
        *("t-shirt", "T-Shirt", "x-ray", "F-16", "covid-19", "jack-o-lantern", "R&D", "C++", "C#"),
        *("3D printer", "iPhone", "iPad", "eBay", "YouTube", "McDonald", "PlayStation", "FedEx"),
        *("carrot", "carpet", "hamster", "panda", "labradoodle", "pineapple", "keyboard"),
        *(
            "skateboard",
            "bluebird",
            "blueberries",
            "blackboard",
            "greenhouse",
            "redwood",
            "browser",
        ),
        *("GitHub", "WhatsApp", "BMWi3", "yellowing", "greyling"),
        *("Fußgänger", "Verkehrsampel", "Handtasche", "кошка", "猫", "🙂", "-", "---"),
    ],
)
def test_names_that_are_no_identifiers_stay_what_they_are(name: str) -> None:
    assert to_words(name) == name


@pytest.mark.parametrize(
    ("phrase", "rest"),
    [
        ('"dog"', "dog"),
        ("“a dog”", "dog"),
        ("(dog)", "dog"),
        ('["dog', "dog"),
        ('dog"]', "dog"),
        ("cab (taxi)", "cab (taxi)"),
        ("the dog.", "dog"),
        ("and the dogs!", "dogs"),
        ("• dog", "dog"),
        ("**dog**", "dog"),
        ("[[dog]]", "dog"),
        ("dog and", "dog"),
        ("A 320", "A 320"),
        ("A and B", "A and B"),
        ("C++", "C++"),
        ("a", "a"),
        ("the", "the"),
        ("...", "..."),
        ("another", "another"),
    ],
)
def test_what_people_put_around_a_phrase_is_left_out(phrase: str, rest: str) -> None:
    assert strip_marks_and_article(phrase) == rest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "cafe"),
        ("Cafe\u0301", "CAFÉ"),
        ("ﬁre truck", "fire_truck"),
        ("Straße", "STRASSE"),
        ("“Red-Star”!", "red_star"),
        ("ครู", "ครู "),
    ],
)
def test_spellings_of_one_name_have_one_normal_form(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("C", "C++"), ("C", "C#"), ("ครู", "ครี"), ("truck", "trunk"), ("R&D", "RD"), ("1", "2")],
)
def test_different_names_have_different_normal_forms(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        *(("person", "people"), ("person", "persons"), ("mouse", "mice"), ("knife", "knives")),
        *(("man", "men"), ("policewoman", "policewomen"), ("child", "children"), ("bus", "buses")),
        *(("glass", "glasses"), ("cactus", "cacti"), ("cactus", "cactuses"), ("sheep", "sheeps")),
        *(("smoothie", "smoothies"), ("potato", "potatoes"), ("box", "boxes"), ("deer", "deers")),
        *(("traffic light", "traffic lights"), ("bottle of water", "bottles of water")),
    ],
)
def test_singular_and_plural_find_each_other(singular: str, plural: str) -> None:
    assert singular in singular_and_plural_forms(plural) or plural in singular_and_plural_forms(
        singular
    )


@pytest.mark.parametrize("word", ["猫", "r&d", "", "x" * 100, "2", "of", "c++"])
def test_what_is_no_english_word_has_no_other_number(word: str) -> None:
    assert all(form.endswith("s") for form in singular_and_plural_forms(word))


@pytest.mark.parametrize(
    ("word", "other"), [("princes", "princess"), ("bras", "brass"), ("cares", "caress")]
)
def test_no_plural_is_made_of_a_plural(word: str, other: str) -> None:
    assert other not in singular_and_plural_forms(word)


def test_digits_are_not_joined() -> None:
    assert joined_form("1 2 inch") != joined_form("12 inch")
    assert joined_form("f 16") == joined_form("f16")
