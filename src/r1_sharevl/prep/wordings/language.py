"""The script and language of a question, from its ordinary words."""

import re
from collections import Counter
from dataclasses import dataclass

_SCRIPTS = {
    "Latin": "A-Za-zÀ-ɏḀ-ỿ",
    "Han": "㐀-鿿",
    "Kana": "\u3041-ヿ",
    "Hangul": "가-힣ᄀ-ᇿ",
    "Cyrillic": "Ѐ-ӿ",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff",
    "Devanagari": "ऀ-ॿ",
    "Bengali": "ঀ-\u09ff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Thai": "\u0e00-\u0e7f",
}
_OTHER_SCRIPTS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items() if name != "Latin"}
# Single letters and capitals are names of points and quantities in every language.
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ɏḀ-ỿ]?[a-zà-ɏḁ-ỿ]+")

# Words of the kind that questions are made of, each of them rare in the other languages of the table.
_PROFILES = """
English: the of is what which how many find and are that with from this there has have does value figure determine
German: der die das ist wie viele welche welcher welches und den dem ein eine einen bestimme berechne größe von zeigt
French: le les des est quelle quel combien dans et une du au aux trouvez trouver calculer calculez cette sont sur
Spanish: el los las es cuál cuántos cuántas qué y del una en encuentra calcula determine halla está figura valor son
Italian: il gli della qual quanti quante è nel nella di trova calcola determina figura che lunghezza dei sono
Portuguese: os as do da qual quantos quantas é no na em encontre calcule determine figura são não comprimento uma
Dutch: het een hoeveel welke van wat zijn de en bereken bepaal lengte figuur met voor
Vietnamese: là của bao nhiêu trong hình có và tính tìm các cho được giác một nào
Turkish: bir ve kaç kaçtır nedir olan ile değeri bulunuz hangi hangisi şekilde üçgen üçgeninin alanı için
Indonesian: yang dan berapa adalah dari pada ini gambar tentukan dengan hitunglah nilai panjang luas jika
Polish: jest ile oblicz który która jaka jaki oraz trójkąta pole się długość wartość na
"""
_LANGUAGES: dict[str, set[str]] = {}
for _line in _PROFILES.strip().splitlines():
    _name, _, _words = _line.partition(":")
    for _word in _words.split():
        _LANGUAGES.setdefault(_word, set()).add(_name)
_ROMANCE = frozenset({"French", "Spanish", "Italian", "Portuguese"})


@dataclass(frozen=True, slots=True)
class Language:
    """How a text is written.

    Attributes:
        letters: Letters of each script, Latin only in ordinary words of three letters or more.
        words: How many words are typical of each language in the Latin script.
    """

    letters: Counter[str]
    words: Counter[str]

    @property
    def weights(self) -> dict[str, float]:
        """How much is written in each script; a Han character counts as three Latin letters."""
        return {name: count / 3 if name == "Latin" else count for name, count in self.letters.items()}

    @property
    def script(self) -> str | None:
        """The script of most words; None where there are none."""
        if self.letters["Kana"] >= 2:
            return "Japanese"
        weights = self.weights
        return max(weights, key=weights.__getitem__, default=None)

    @property
    def is_romance(self) -> bool:
        """Whether the text is in a language that has words of a single letter such as `y` and `e`."""
        best = self.words.most_common(1)
        return bool(best) and best[0][1] >= 2 and best[0][0] in _ROMANCE


def find_language(text: str) -> Language:
    """Look at the words of a text in plain notation."""
    found = _LATIN_WORD.findall(text)
    letters = Counter({"Latin": sum(len(word) for word in found if len(word) >= 3)})
    if not text.isascii():
        for name, pattern in _OTHER_SCRIPTS.items():
            if count := len(pattern.findall(text)):
                letters[name] = count
    words: Counter[str] = Counter()
    for word in found:
        words.update(_LANGUAGES.get(word.lower(), ()))
    return Language(+letters, words)


def same_language(first: Language, second: Language) -> bool:
    """Tell whether two texts may be in the same language; yes where it cannot be told.

    Another script is another language, and so is a text with a good share of another script than the first has at
    all. Within the Latin script both texts need at least two typical words, and more than twice as many of their own
    language as of the other's.
    """
    if first.script and second.script and first.script != second.script:
        return False
    for one, other in ((first, second), (second, first)):
        total = sum(one.weights.values())
        for name, count in one.letters.items():
            if name != "Latin" and count >= 4 and count * 5 > total and not other.letters[name] and other.script:
                return False
    if first.script != "Latin" or second.script != "Latin" or not first.words or not second.words:
        return True
    (own, own_count), (other_name, other_count) = first.words.most_common(1)[0], second.words.most_common(1)[0]
    is_clear = min(own_count, other_count) >= 2 and own != other_name
    return not (is_clear and own_count > 2 * first.words[other_name] and other_count > 2 * second.words[own])
