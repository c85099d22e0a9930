"""What a model writes around a question, or in its place: refusals, greetings, labels, scraps of its output format."""

import re
from collections.abc import Callable, Sequence

_Finder = Callable[[str], re.Match[str] | None]


def _compiled(*patterns: str) -> Sequence[_Finder]:
    compiled = [re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in patterns]
    # A search for what can only stand at the start would try every place.
    return [pattern.match if pattern.pattern.startswith(r"\A") else pattern.search for pattern in compiled]


_REFUSALS = _compiled(
    r"\A\W*(?:i['’]?m|i am|we['’]?re|we are)\s+(?:very |so |really )?(?:sorry|afraid|unable|not able)\b",
    r"\A\W*(?:sorry|apologies|unfortunately)\b[,，.!]?",
    r"\bi (?:do )?apologi[sz]e\b",
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|assistant)\b",
    r"\bi(?:['’]m| am)? (?:cannot|can['’]?t|can not|unable to|not able to|won['’]t|will not|don['’]t) (?:assist|help"
    r"|comply|provide|fulfill|rephrase|reword|rewrite|paraphrase|see|view|access|process|do that|create|answer)\b",
    r"\A\W*(?:(?:很|非常|十分)?抱歉|对不起|不好意思|遗憾)",
    r"(?:作为|身为)(?:一个|一名|一款)?(?:AI|人工智能|语言模型|大模型|助手)",
    r"我(?:无法|不能|没办法|没有办法|不会)(?:回答|提供|协助|帮助|改写|重写|完成|看到|查看|处理)",
)

_CHATTER = _compiled(
    r"\A\W*(?:sure|certainly|of course|absolutely|okay|ok|great|got it|understood|no problem|gladly)\b\s*[!,.:，！。]",
    r"\A\W*(?:here|below)(?:['’]s| is| are| you go| comes)\b",
    r"\bhere (?:is|are)\b[^.?!\n]{0,40}\b(?:version|rewrit|rephras|paraphras|reword|variant|question|wording|way)",
    r"\b(?:re-?written|rephrased|paraphrased|reworded|revised|alternative|equivalent|original|new|modified)"
    r" (?:version|question|problem|wording|phrasing|text|variant|prompt)s?(?:\s*\d+)?\s*[:：]",
    r"^\W*(?:variant|version|variation|rewording|rewrite|rephrasing|paraphrase|wording|alternative|rephrased|rewritten"
    r"|reworded|output|response|example|sample|prompt)\s*#?\s*(?:\d{1,2}|[a-e])?\s*\W{0,2}\s*[:：]",
    r"\A\W*(?:question|problem|q|wording|option)\s*#?\s*(?:\d{1,2}\s*)?\W{0,2}\s*[:：]",
    r"^\W*(?:note|explanation|reasoning|rationale|comment|changes?|disclaimer|remark)\s*\W{0,2}\s*[:：]",
    r"\bnote that (?:i|the (?:meaning|original|rewritten|question|answer|wording)|this (?:question|version|wording))\b",
    r"\b(?:i|i['’]ve|we|we['’]ve|i have|we have) (?:(?:have|just|only) )?(?:rephrased|reworded|rewritten|rewrote"
    r"|paraphrased|kept|preserved|maintained|changed|ensured|tried)\b",
    r"\bthis (?:version|rewording|variant|variation|rephrasing|paraphrase|rewrite|phrasing|wording)\b",
    r"\bthe (?:original|rewritten|rephrased|reworded) (?:question|problem|wording|text|meaning)\b",
    r"\b(?:let me know|hope (?:this|that|it) helps|feel free to|would you like|happy to help|do you want me)\b",
    r"\A\s*(?:\(?\d{1,2}[.)、．:：](?!\d)|[-*•]\s|#{1,6}\s|>\s|\[\d{1,2}\])",
    r"```",
    r"</?(?:think|thinking|answer|question|rewrite|rewritten|variant|output|response|s|eos|bos)>|<\|[^<>|\n]{1,40}\|>",
    r"\A\s*[\[{]\s*[\"'“]",
    r"[\"'”]\s*[\]}]\s*\Z|\"(?:question|questions|variants?|text|problem|rewrit\w{0,4}|wordings?)\"\s*:",
    r"\A\W*(?:好的|当然|没问题|明白了?|可以的)\s*[,，!！。.：:]",
    r"(?:以下|下面)(?:是|为)[^。？\n]{0,12}(?:改写|重写|问题|版本|表述|题目)",
    r"^\W*(?:改写|重写|重述|改述|改编|变体|版本|表述|问法|原题|原问题|题目|问题|新问题)[^:：\n，。？]{0,8}[:：]",
    r"^\W*(?:注|注意|说明|解析|解释|备注|提示|分析)\s*[:：]",
    r"(?:我(?:已经?|将)?(?:改写|重写|保留|保持)|改写后的?(?:问题|题目)|希望(?:这|对你)|与原题)",
)


def is_refusal(problem: str, wording: str) -> bool:
    """Tell whether a model says that it cannot or will not write the wording."""
    return _has_more(_REFUSALS, problem, wording)


def is_chatter(problem: str, wording: str) -> bool:
    """Tell whether a wording has more around it than the question: talk, a label, a list number, format scraps.

    What the problem itself has in the same place (such as a leading "Question:") is no chatter.
    """
    if _is_quoted(wording) and not _is_quoted(problem):
        return True
    return _has_more(_CHATTER, problem, wording)


def _has_more(finders: Sequence[_Finder], problem: str, wording: str) -> bool:
    return any(find(wording) and not find(problem) for find in finders)


def _is_quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] + text[-1] in ('""', "“”", "''", "「」", "``") and text.count(text[0]) <= 2
