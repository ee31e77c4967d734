"""The paragraph of advice: which methods to use for a model, and why."""

from functools import partial

from sightline._common.words import joined
from sightline.auditing._judged import Judged
from sightline.auditing.questions import CONTROLS, Said
from sightline.auditing.questions._checked import worded


def advice(found: Judged) -> str:
    """Which methods to use for this model, and why, in a paragraph."""
    verdicts = found.verdicts.drop(index=list(CONTROLS), errors="ignore")
    lists = {said: list(verdicts.index[verdicts["overall"] == said]) for said in Said}
    alike = {method: likeness for method, likeness in found.alike.items() if method not in lists[Said.FAIL]}
    weights = str(found.settings.get("weights", ""))
    untrained = weights.startswith("untrained")
    kind = found.settings.get("output", {}).get("kind", "classes")
    sentences = []
    if untrained:
        sentences.append(
            "The weights of this network are drawn at random: it has learned nothing that a map could show."
        )
    elif "random unless" in weights:
        sentences.append(f"Its weights are {weights}; with random ones it has learned nothing that a map could show.")
    if good := [method for method in lists[Said.PASS] if method not in alike]:
        noun = {"classes": "class", "labels": "label"}.get(kind, "output")
        sentences.append(
            f"On these {len(found.names)} images the maps of {joined(good)} depend on the {noun} and on this model's "
            f"weights, as far as these tests can tell{'' if untrained else '; prefer them'}."
        )
    if unlike := [f"{m} ({likeness:.2f})" for m, likeness in alike.items() if m in verdicts.index]:
        sentences.append(
            f"The maps of {joined(unlike)} are alike for different images (rank correlation without its sign, in "
            "brackets), so that they say little of the image at hand: do not prefer them, whatever else they pass."
        )
    sentences += _failed(found, lists[Said.FAIL])
    floor = found.settings.get("floor", {})
    if kind != "values" and floor.get("of other classes", 0) < floor.get("pairs", 0) / 2:
        sentences.append(
            f"Of {floor['pairs']} pairs of images that floors rest on, {floor['of other classes'] or 'none'} "
            "are of different predicted classes, since the network says the same of most of these images: verdicts "
            "between floor and ceiling rest on images of one class."
        )
    if lists[Said.UNDECIDED]:
        sentences.append(f"No verdict for {joined(lists[Said.UNDECIDED])}; the table says why.")
    rules = found.rules
    summaries: dict[str, list[str]] = {}
    for (test, method), finding in found.findings.items():
        if rules[test] is None and finding.reason and method in verdicts.index:
            summaries.setdefault(finding.reason, []).append(method)
    sentences += [f"Of {joined(methods)}: {reason}." for reason, methods in summaries.items()]
    table = found.table
    own = table[table["method"].isin(verdicts.index)]
    for question in found.questions:
        sentences += worded(question, partial(question.notes, own, found.settings), lambda why: [f"Note: {why}."])
    return " ".join(sentences)


def _failed(found: Judged, methods: list[str]) -> list[str]:
    """A sentence for all methods that fail the same tests and have the same remedy."""
    owners = {test: question for question in found.questions for test in question.tests}
    alike: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for method in methods:
        tests = tuple(test for test in found.rules if found.findings[test, method].said is Said.FAIL)
        remedy = ""
        if len(tests) == 1:
            owner = owners[tests[0]]
            remedy = worded(owner, partial(owner.remedy, method, found.findings), lambda _: "")
        alike.setdefault((tests, remedy), []).append(method)
    sentences = []
    for (tests, remedy), names in alike.items():
        figures = [f"{name} ({', '.join(found.figure(test, name) for test in tests)})" for name in names]
        own, verb = ("its", "fails") if len(names) == 1 else ("their", "fail")
        remedy = remedy or f"do not read {own} maps as explanations of this model"
        sentences.append(f"{joined(figures)} {verb} {joined(tests)}: {remedy}.")
    return sentences
