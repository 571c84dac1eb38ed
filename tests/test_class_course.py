"""Which model a course keeps, and how its minutes are shared, with runs that are made up."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from elman import checkpoint, class_course
from elman.checkpoint import ModelFile
from elman.class_course import LABELLING_SHARE, Course
from elman.class_data import Coded
from elman.progress import Report


def file(name, loss, texts, stopped="interrupted", seconds=60.0):
    training = {
        "validation_loss": loss,
        "validation_texts": texts,
        "stopped": stopped,
        "seconds": seconds,
        "steps": 600,
    }
    return ModelFile("labels", {}, {"name": name}, {}, training, "")


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A course whose teacher loses 0.1 nats on the first half of 10 texts, 0.5 on the other; and what it took."""
    taken, budgets = [], []
    monkeypatch.setattr(class_course, "taught", lambda corpus, teacher, judged: corpus)
    monkeypatch.setattr(class_course, "ClassNetwork", lambda model, tensors: lambda codes: None)
    monkeypatch.setattr(Course, "_losses", lambda self, judged: np.repeat([0.1, 0.5], 5))
    codes = tuple(np.array([k]) for k in range(1000))

    def begin(teacher, offers, minutes=10.0, resume=False):
        runs = iter([[teacher], offers])

        def make(corpus, initial, budget, keep):
            budgets.append((budget, corpus))
            return SimpleNamespace(describe=dict, batch_size=1, keep=keep)

        def carry_out(run, *others):
            for each in next(runs):
                run.keep(each)

        monkeypatch.setattr(class_course, "carry_out", carry_out)
        monkeypatch.setattr("elman.class_fit.finished", lambda *_: teacher if resume else None)
        corpus = SimpleCorpus(codes)
        course = Course(
            corpus, None, {}, (minutes, None), False, True, 0, Report(False), tmp_path / "l.elman", resume, None,
            make, taken.append,
        )  # fmt: skip
        if resume:
            next(runs)
        course.run()
        return [one.model["name"] for one in taken], budgets

    begin.taken, begin.folder = taken, tmp_path
    return begin


class SimpleCorpus:
    several = False
    held = Coded(tuple(np.zeros((10, 1), np.int32)), np.zeros(10, np.int64))

    def __init__(self, unlabelled):
        self.unlabelled = unlabelled


@pytest.fixture(autouse=True)
def replaceable(monkeypatch):
    """`replace` of the corpus that is none."""

    def changed(given, **changes):
        return SimpleCorpus(**changes) if isinstance(given, SimpleCorpus) else replace(given, **changes)

    monkeypatch.setattr(class_course, "replace", changed)
    monkeypatch.setattr(checkpoint, "save_file", lambda path, file: path.write_text("kept"))


TEACHER = file("teacher", 0.3, 10, "finished")


def test_a_pupil_is_kept_where_it_is_better_on_the_same_texts(made):
    names, _ = made(TEACHER, [file("a", 0.09, 5), file("b", 0.29, 10, "finished")])
    assert names == ["teacher", "a", "b"]


def test_a_pupil_that_was_lucky_on_few_texts_does_not_take_the_teachers_place(made):
    """0.2 is less than the teacher's 0.3 of all texts, and more than its 0.1 of those."""
    names, _ = made(TEACHER, [file("a", 0.2, 5), file("b", 0.09, 5), file("c", 0.33, 10, "finished")])
    assert names == ["teacher", "teacher", "b", "teacher"]
    assert made.taken[-1].training["stopped"] == "finished"


def test_a_teacher_that_took_all_the_minutes_leaves_some(made):
    _, budgets = made(file("teacher", 0.3, 10, "finished", seconds=1_000), [file("a", 0.2, 10, "finished")])
    assert budgets[-1][0][0] == pytest.approx(LABELLING_SHARE * 10)


def test_no_more_texts_are_labelled_than_are_read(made):
    """600 steps of one text a minute: 8 minutes read all 1,000, and 1 minute 600."""
    _, budgets = made(TEACHER, [file("a", 0.2, 10, "finished")])
    assert len(budgets[-1][1].unlabelled) == 1000
    _, budgets = made(file("teacher", 0.3, 10, "finished", seconds=60), [file("a", 0.2, 10, "finished")], 2.0)
    count = len(budgets[-1][1].unlabelled)
    assert count == pytest.approx(600 * (0.9 * 2 - 1), abs=1)
    assert [int(codes[0]) for codes in budgets[-1][1].unlabelled] == sorted(
        int(codes[0]) for codes in budgets[-1][1].unlabelled
    )


def test_going_on_with_a_pupil_leaves_its_model_where_it_is(made):
    (made.folder / "l.elman.resume").write_text("begun")
    names, _ = made(TEACHER, [file("a", 0.2, 10, "finished")], resume=True)
    assert names == ["a"]


def test_going_on_before_there_is_a_pupil_has_the_teacher(made):
    names, _ = made(TEACHER, [file("a", 0.2, 10, "finished")], resume=True)
    assert names == ["teacher", "a"]
