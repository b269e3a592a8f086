"""The language of `--vary`: what texts come to, conditions, expressions, replication, edges, scales."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpjax.config import FIELDS, Config
from hpjax.study.space import NOT_VARIED, REPLICATED, Space

BASE = Config(learning_rate=0.1, momentum=0.9)


def space(*texts: str, base: Config = BASE) -> Space:
    return Space.parse(texts, base)


def at(*texts: str, u: float | tuple[float, ...] = 0.5, base: Config = BASE) -> dict:
    made = space(*texts, base=base)
    return made.values(u if isinstance(u, tuple) else [u] * len(made.leaves))


def test_the_example_of_the_readme():
    made = space("learning_rate=log(1e-4,1)", "momentum=1-log(1e-3,0.5)", "batch_size=choice(32,64,128)", "seed=range(4)")
    assert made.names == ("learning_rate", "momentum", "batch_size")
    assert made.replicated == ("seed",)
    assert made.replicas == [{"seed": 0}, {"seed": 1}, {"seed": 2}, {"seed": 3}]
    assert [(leaf.setting, leaf.kind) for leaf in made.leaves] == [
        ("learning_rate", "log"),
        ("momentum", "log"),
        ("batch_size", "choice"),
    ]
    # 10^-2; 1 - sqrt(1e-3 * 0.5); the middle one.
    assert made.values((0.5, 0.5, 0.5)) == pytest.approx(
        {"learning_rate": 0.01, "momentum": 1 - math.sqrt(5e-4), "batch_size": 64}, rel=1e-13
    )
    assert [type(value) for value in made.values((0.5, 0.5, 0.5)).values()] == [float, float, int]
    assert list(made.values((0, 0, 0))) == list(made.names)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("learning_rate=2*(1+3)/4**2*uniform(1,3)", 1.0),  # 0.5 times 2
        ("learning_rate=-uniform(1,3)+3.5", 1.5),
        ("learning_rate=+uniform(1,3)", 2.0),
        ("learning_rate=-(-uniform(1,3))", 2.0),
        ("learning_rate=10**uniform(-4,0)", 0.01),
        ("learning_rate=10**-uniform(1,3)", 0.01),
        ("learning_rate=2**uniform(1,3)**2/32", 0.5),  # the right ** first: 2^4
        ("learning_rate=8-uniform(1,3)-1", 5.0),  # the left - first
        ("learning_rate=log(2**-4,2**-2)", 0.125),
        ("learning_rate=log(1/1000,-1+1.1)", 0.01),
        ("batch_size=2**int(4,8)", 64),
        ("batch_size=64*grid(1,2,4)", 128),
        ("batch_size=uniform(16,256,16)", 144),
        ("train_steps=100*int(1,3)", "200"),
        ("train_steps=choice(1,'3epochs',5)", "3epochs"),
        ("hidden_sizes=choice('64,64','32, 16',none)", (32, 16)),
        ("hidden_sizes=choice(16,32,64)", (32,)),
        ("hidden_sizes=choice(16,none)", ()),
        ("norm=choice(batch,none)", "none"),
        ("clip_norm=choice(1,none)", None),
        ("nesterov=choice(True,false)", False),
        ("activation=choice(gelu,'relu')", "relu"),
        ("crop_padding=range(3)", 1),
        ("l2=choice(0,1e-4)", 1e-4),
    ],
)
def test_hand_worked_expressions(text, value):
    name = text.partition("=")[0]
    found = at(text)[name]
    assert found == (pytest.approx(value, rel=1e-13) if isinstance(value, float) else value)
    assert type(found) is type(value)


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_expressions_are_pythons(u, v):
    made = space("learning_rate=log(1e-4,1)", "weight_decay=(learning_rate*log(1e-3,1)+2)**2/3-learning_rate/-4")
    one, other = (leaf.value(x) for leaf, x in zip(made.leaves, (u, v), strict=True))
    assert made.values((u, v)) == {"learning_rate": one, "weight_decay": (one * other + 2) ** 2 / 3 - one / -4}


def test_names_are_other_settings_in_any_order():
    texts = ("weight_decay=learning_rate*log(1e-3,1)", "l2=weight_decay/2", "learning_rate=log(1e-4,1)")
    # Leaves in the order of the texts: 10^-1.5 and 10^-2.
    found = at(*texts)
    assert found == pytest.approx({"weight_decay": 10**-3.5, "l2": 10**-3.5 / 2, "learning_rate": 0.01}, rel=1e-13)
    assert list(found) == ["weight_decay", "l2", "learning_rate"]


def test_names_that_are_not_varied_are_the_bases():
    assert at("weight_decay=learning_rate*uniform(1,3)") == {"weight_decay": pytest.approx(0.2)}
    assert at("weight_decay=batch_size*uniform(1,3)/1000", base=Config(batch_size=50)) == {"weight_decay": 0.1}
    assert at("weight_decay=learning_rate*0.5") == {"weight_decay": 0.05}


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        ("batch_size==64", (False, True, False)),
        ("batch_size!=64", (True, False, True)),
        ("batch_size<64", (True, False, False)),
        ("batch_size<=64", (True, True, False)),
        ("batch_size>64", (False, False, True)),
        ("batch_size>=64", (False, True, True)),
        ("batch_size in (32,128)", (True, False, True)),
        ("batch_size in (32,)", (True, False, False)),
        ("batch_size not in [32,128]", (False, True, False)),
        ("not batch_size==64", (True, False, True)),
        ("batch_size>32 and batch_size<128", (False, True, False)),
        ("batch_size<64 or batch_size>64", (True, False, True)),
        ("not (batch_size<64 or batch_size>64)", (False, True, False)),
        ("batch_size==64 or batch_size==32 and optimizer==adam", (False, True, False)),
        ("(batch_size==64 or batch_size==32) and optimizer==momentum", (True, True, False)),
        ("batch_size>1e3 or model=='mlp'", (True, True, True)),
        ("batch_size>-1 and model!=cnn and not nesterov==true", (True, True, True)),
        ("norm==batch or batch_size>64", (False, False, True)),
    ],
)
def test_conditions(condition, held):
    texts = ("batch_size=grid(32,64,128)", f"dropout_rate=0.25 if {condition} else uniform(0.5,0.6)")
    made = space(*texts, base=Config(nesterov=False, norm="none"))
    found = [made.values((u, *[0.5] * (len(made.leaves) - 1)))["dropout_rate"] == 0.25 for u in (0.1, 0.5, 0.9)]
    assert tuple(found) == held


def test_without_else_a_setting_is_absent_where_the_condition_is_false():
    texts = (
        "momentum=uniform(0,1) if optimizer==momentum",
        "optimizer=choice(adam,momentum)",
        "beta1=0.8 if optimizer==adam",
    )
    assert at(*texts, u=(0.25, 0.9)) == {"momentum": 0.25, "optimizer": "momentum"}
    assert at(*texts, u=(0.25, 0.1)) == {"optimizer": "adam", "beta1": 0.8}
    assert list(at(*texts, u=(0.25, 0.1))) == ["optimizer", "beta1"]


def test_conditionals_in_a_row_and_in_arithmetic():
    texts = ["batch_size=grid(32,64,128)", "l2=1 if batch_size==32 else 2 if batch_size==64"]
    assert [at(*texts, u=(u,)).get("l2") for u in (0.1, 0.5, 0.9)] == [1.0, 2.0, None]
    texts[1] = "l2=1+(2 if batch_size==32 else (3 if batch_size==64 else 4))*2"
    assert [at(*texts, u=(u,)).get("l2") for u in (0.1, 0.5, 0.9)] == [5.0, 7.0, 9.0]
    texts[1] = "l2=(1 if batch_size>32 else 2) if batch_size<128"
    assert [at(*texts, u=(u,)).get("l2") for u in (0.1, 0.5, 0.9)] == [2.0, 1.0, None]


def test_a_setting_that_is_absent_has_the_bases_value_for_others():
    texts = ("optimizer=choice(adam,momentum)", "momentum=0.5 if optimizer==momentum", "dropout_rate=momentum/2")
    assert [at(*texts, u=(u,))["dropout_rate"] for u in (0.1, 0.9)] == [0.45, 0.25]


def test_words_for_a_setting_from_a_condition():
    texts = ("batch_size=choice(32,256)", "optimizer='lars' if batch_size>=256 else 'momentum'")
    assert [at(*texts, u=(u,))["optimizer"] for u in (0.1, 0.9)] == ["momentum", "lars"]


def test_branches_that_are_never_taken_have_no_leaves():
    text = "l2=uniform(0,1) if optimizer==momentum else log(1e-3,1)"
    assert [leaf.kind for leaf in space(text).leaves] == ["uniform"]
    assert [leaf.kind for leaf in space(text, base=Config(optimizer="adam")).leaves] == ["log"]


def test_replication():
    made = space("data_seed=grid(3,9)", "learning_rate=log(1e-4,1)", "fold=range(2)", "seed=choice(5,4294967295)")
    assert made.names == ("learning_rate",)
    assert made.replicated == ("data_seed", "fold", "seed")
    assert len(made.replicas) == 8
    assert made.replicas[:3] == [
        {"data_seed": 3, "fold": 0, "seed": 5},
        {"data_seed": 3, "fold": 0, "seed": 4294967295},
        {"data_seed": 3, "fold": 1, "seed": 5},
    ]
    assert list(made.values([0.5])) == ["learning_rate"]
    assert space("learning_rate=log(1e-4,1)").replicas == [{}]


def test_nothing_to_vary():
    made = space()
    assert (made.texts, made.names, made.leaves, made.replicas, made.values(())) == ((), (), (), [{}], {})
    assert (made.grid_size, made.grid_point(0)) == (1, ())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" learning_rate =  log( 1e-4 , 1.0 ) ", "learning_rate=log(0.0001, 1)"),
        ("learning_rate=((log(0.0001,1)))", "learning_rate=log(0.0001, 1)"),
        ("optimizer=choice('adam',\"optax:sgd\")", "optimizer=choice(adam, 'optax:sgd')"),
        ("clip_norm=choice(1.,None)", "clip_norm=choice(1, none)"),
        ("norm=choice('none',batch)", "norm=choice('none', batch)"),
        ("l2=log(.1,1)if(model=='mlp')", "l2=log(0.1, 1) if model == mlp"),
        ("l2=log(.1,1) if model in ['mlp','cnn',] else 2.50", "l2=log(0.1, 1) if model in (mlp, cnn) else 2.5"),
        ("l2=(1-log(.1,\t.5))**2", "l2=(1 - log(0.1, 0.5)) ** 2"),
    ],
)
def test_one_spelling_for_one_meaning(text, normal):
    assert space(text).texts == (normal,)
    assert space(normal).texts == (normal,)


def test_every_setting_can_be_varied_or_says_why_not():
    assert set(NOT_VARIED) <= set(FIELDS)
    assert not set(NOT_VARIED) & set(REPLICATED)
    for name in ("run_dir", "data_dir", "dataset", "callback", "objective", "devices"):
        assert name in NOT_VARIED


@pytest.mark.parametrize(
    ("text", "values", "edges"),
    [
        # 5 % of four decades are 0.2: 10^-3.8 and 10^-0.2.
        ("learning_rate=log(1e-4,1)", (10**-3.81, 10**-3.79, 0.01, 10**-0.21, 10**-0.19), "l---h"),
        ("dropout_rate=uniform(0,0.5)", (0, 0.024, 0.026, 0.474, 0.476), "ll--h"),
        # 1 - x: the highest where the leaf is lowest. 5 % of log(500) from 1e-3: 1.364e-3; from 0.5: 0.3665.
        ("momentum=1-log(1e-3,0.5)", (1 - 1.36e-3, 1 - 1.37e-3, 0.9, 1 - 0.366, 1 - 0.367), "h---l"),
        ("momentum=-log(1e-3,0.5)+1", (0.999, 0.9, 0.5), "h-l"),
        ("batch_size=2**int(4,8)", (16, 32, 128, 256), "l--h"),
        ("batch_size=int(4,8)", (4, 5, 7, 8), "l--h"),
        ("crop_padding=range(4)", (0, 1, 3), "l-h"),
        ("batch_size=grid(64,32,16)", (64, 32, 16), "h-l"),
        ("batch_size=choice(32,128,64)", (32, 64, 128), "l-h"),
        ("learning_rate=log(1e-4,1,5)", (1e-4, 1e-3, 0.1, 1), "l--h"),
        ("weight_decay=learning_rate*log(1e-3,1)", (1e-4, 1e-2, 0.1), "l-h"),  # of the base: 0.1
        ("weight_decay=log(1e-3,1)*log(1e-3,1)", (1e-6, 1), "--"),
        ("learning_rate=log(1e-4,1)", (1e-5, 2), "lh"),  # enqueued, outside
        ("clip_norm=choice(1,2,none)", (1, None), "--"),
        ("optimizer=choice(adam,lion)", ("adam", "lion"), "--"),
        ("train_steps=int(1,3)", ("1", "3"), "--"),
        ("l2=int(2,2)", (2.0,), "-"),
    ],
)
def test_edges(text, values, edges):
    made, name = space(text), text.partition("=")[0]
    ends = {"l": [f"{name} (lowest)"], "h": [f"{name} (highest)"], "-": []}
    assert [made.edges({name: value}) for value in values] == [ends[edge] for edge in edges]


def test_edges_of_several():
    texts = ("learning_rate=log(1e-4,1)", "weight_decay=learning_rate*log(1e-3,1)", "optimizer=choice(adam,momentum)")
    made = space(*texts, "momentum=uniform(0,0.5) if optimizer==momentum else uniform(0.5,1)", "seed=range(2)")
    values = {"learning_rate": 1e-4, "weight_decay": 1e-7, "optimizer": "adam", "momentum": 0.5}
    assert made.edges(values) == ["learning_rate (lowest)", "momentum (lowest)"]
    assert made.edges(values | {"optimizer": "momentum", "learning_rate": 0.1}) == ["momentum (highest)"]
    assert made.edges({"optimizer": "momentum"}) == []


@pytest.mark.parametrize(
    ("texts", "scale"),
    [
        (["l2=log(1e-4,1)"], "log"),
        (["l2=log(1e-4,1,5)"], "log"),
        (["l2=2*log(1e-4,1)/3"], "log"),
        (["l2=learning_rate*log(1e-3,1)"], "log"),
        (["l2=learning_rate*log(1e-3,1)", "learning_rate=log(1e-4,1)"], "log"),
        (["l2=learning_rate*2", "learning_rate=uniform(0.1,1)"], "linear"),
        (["l2=10**uniform(-4,0)"], "log"),
        (["batch_size=2**int(4,8)"], "log"),
        (["momentum=1-log(1e-3,0.5)"], "reflected"),
        (["l2=--log(1e-3,0.5)"], "linear"),
        (["l2=-2*-log(1e-3,0.5)"], "linear"),
        (["l2=uniform(0,1)**2"], "linear"),
        (["l2=uniform(0,1)"], "linear"),
        (["l2=1-log(1e-3,1)"], "reflected"),
        (["l2=1-log(1e-3,1) if batch_size>1", "batch_size=int(1,3)"], "reflected"),
        (["l2=1-log(1e-3,1) if batch_size>1 else log(1e-3,1)", "batch_size=int(1,3)"], "linear"),
        (["l2=2-log(1e-3,1)"], "linear"),
        (["batch_size=int(1,9)"], "linear"),
        (["l2=grid(1e-4,1e-3,1e-2)"], "log"),
        (["l2=grid(0.3,0.1,0.03)"], "log"),
        (["l2=grid(0,1e-3,1e-2)"], "linear"),
        (["l2=grid(1,2,3)"], "linear"),
        (["l2=grid(1,20,40,60)"], "linear"),
        (["l2=choice(0.1,0.2)"], "category"),
        (["l2=2*choice(0.1,0.2)"], "category"),
        (["l2=log(1e-3,1) if batch_size>1 else log(1e-4,1)", "batch_size=int(1,3)"], "log"),
        (["l2=log(1e-3,1) if batch_size>1 else 0", "batch_size=int(1,3)"], "linear"),
        (["l2=log(1e-3,1) if batch_size>1", "batch_size=int(1,3)"], "log"),
        (["l2=0.1 if batch_size>1 else 0.2", "batch_size=int(1,3)"], "category"),
        (["optimizer=choice(adam,lion)"], "category"),
        (["train_steps=int(1,3)"], "category"),
    ],
)
def test_scales(texts, scale):
    assert space(*texts).scale(texts[0].partition("=")[0]) == scale


def test_the_base_is_not_changed():
    before = dataclasses.asdict(BASE)
    at("learning_rate=log(1e-4,1)")
    assert dataclasses.asdict(BASE) == before


@pytest.mark.parametrize("point", [(), (0.5, 0.5)])
def test_points_of_another_length(point):
    with pytest.raises(ValueError, match=f"a point has {len(point)} numbers; expected 1, one for each leaf"):
        space("learning_rate=log(1e-4,1)").values(point)
