"""Every refusal of the language of `--vary`: one line, what came, at which character, what was expected."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.study.space import NOT_VARIED, Space

BASE = Config(momentum=0.9)
LOG, UNIFORM = "expected log(low,high) or log(low,high,number)", "expected uniform(low,high) or uniform(low,high,number)"
QUOTES = "a text that is no plain word goes in quotes, '3epochs'"
EXAMPLES = f"expected for example log(1e-4,1), 1-log(1e-3,0.5), choice(1,2); {QUOTES}"
LITERAL = f"expected for example choice(1,2); {QUOTES}"
POSITIVE = "expected a finite number > 0 (float32: 1.2e-38 to 3.4e38)"
LANGUAGE = "expected numbers, settings, + - * / **, log, uniform, int, choice, grid, range"
WHOLE = "expected a whole number in [-4294967296, 4294967296]"


def error(*texts: str) -> str:
    with pytest.raises(ConfigError) as raised:
        Space.parse(texts, BASE)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "came", "at", "expected"),
    [
        # Names.
        ("learnig_rate=log(0.1,1)", "setting 'learnig_rate' is unknown", 1, "did you mean 'learning_rate'?"),
        ("  zzz=log(0.1,1)", "setting 'zzz' is unknown", 3, "expected a setting: --helpfull lists them"),
        (
            "run_dir=choice(a,b)",
            "'run_dir' cannot be varied",
            1,
            "expected the flag --run_dir: it says where or how to run, not what",
        ),
        (
            "seed=log(1,9)",
            "'seed' repeats every point and is not drawn",
            6,
            "expected seed=range(4), grid(...) or choice(...)",
        ),
        (
            "seed=int(1,9)",
            "'seed' repeats every point and is not drawn",
            6,
            "expected seed=range(4), grid(...) or choice(...)",
        ),
        (
            "fold=1+range(3)",
            "'fold' repeats every point and is not drawn",
            6,
            "expected fold=range(4), grid(...) or choice(...)",
        ),
        ("seed=grid(-1,1)", "seed is -1", 11, "expected a whole number in [0, 2^32)"),
        ("seed=choice(a,b)", "seed is 'a'", 13, "expected a number"),
        ("fold=grid(0.5,1)", "fold is 0.5", 11, "expected a whole number"),
        # Distributions.
        (
            "learning_rate=lgo(0.1,1)",
            "function 'lgo' is unknown",
            15,
            "did you mean 'log'? known: log, uniform, int, choice, grid, range",
        ),
        (
            "learning_rate=np.log(0.1,1)",
            "function 'np.log' is unknown",
            15,
            "did you mean 'log'? known: log, uniform, int, choice, grid, range",
        ),
        ("learning_rate=log(0,1)", "log's lower bound is 0", 19, "expected a number > 0"),
        ("learning_rate=log(-1e-3,1)", "log's lower bound is -0.001", 19, "expected a number > 0"),
        ("learning_rate=log(1,-1)", "log's upper bound is -1", 21, "expected a number > 0"),
        ("learning_rate=log(1,0.1)", "log's range is reversed, 1 to 0.1", 19, "expected log(low,high), low < high"),
        ("learning_rate=log(1,1)", "log's range is empty, 1 to 1", 19, "expected log(low,high), low < high"),
        ("l2=uniform(0.2,0.1)", "uniform's range is reversed, 0.2 to 0.1", 12, "expected uniform(low,high), low < high"),
        (
            "l2=uniform(-1e308,1e308)",
            "uniform's range is too wide, -1e+308 to 1e+308",
            12,
            "expected uniform(low,high), low < high",
        ),
        ("width=int(5,4)", "int's range is reversed, 5 to 4", 11, "expected int(low,high), low < high"),
        ("width=int(1.5,4)", "int's lower bound is 1.5", 11, WHOLE),
        ("width=int(1,4.5)", "int's upper bound is 4.5", 13, WHOLE),
        ("width=range(0)", "range's number is 0", 13, "expected a whole number in [1, 1000000]"),
        ("width=range(1e9)", "range's number is 1000000000", 13, "expected a whole number in [1, 1000000]"),
        ("seed=range(1000001)", "range's number is 1000001", 12, "expected a whole number in [1, 1000000]"),
        ("l2=log(1,2,1)", "log's number of values is 1", 12, "expected a whole number in [2, 1000000]"),
        ("l2=uniform(1,2,2.5)", "uniform's number of values is 2.5", 16, "expected a whole number in [2, 1000000]"),
        ("l2=uniform(1,2,1e7)", "uniform's number of values is 10000000", 16, "expected a whole number in [2, 1000000]"),
        ("l2=uniform(1,1+1e-15,9)", "uniform has 9 values in a range too narrow for them", 22, "expected fewer"),
        ("l2=log(1)", "log has one argument", 4, LOG),
        ("l2=log()", "log has no argument", 4, LOG),
        ("l2=uniform(1,2,3,4)", "uniform has 4 arguments", 4, UNIFORM),
        ("width=int(1,2,3)", "int has 3 arguments", 7, "expected int(low,high)"),
        ("width=range(1,2)", "range has 2 arguments", 7, "expected range(number)"),
        ("width=choice()", "choice has no argument", 7, "expected choice(value,value,...)"),
        ("width=grid()", "grid has no argument", 7, "expected grid(value,value,...)"),
        ("l2=log(low=1,high=2)", "log has a keyword argument, 'low'", 8, LOG),
        ("l2=log(1,**x)", "log has a keyword argument, '**'", 10, LOG),
        ("l2=log(*x)", "'*x' is no number", 8, LOG),
        ("l2=log(a,1)", "'a' is no number", 8, LOG),
        ("l2=log('1',2)", "'1' is no number", 8, LOG),
        ("l2=log(true,2)", "'true' is no number", 8, LOG),
        ("l2=log(True,2)", "'True' is no number", 8, LOG),
        ("l2=log(1,learning_rate)", "'learning_rate' is no number", 10, LOG),
        ("l2=log(1,uniform(2,3))", "'uniform(2,3)' is no number", 10, LOG),
        ("l2=log(nan,1)", "'nan' is no finite number", 8, "expected a number, or in a choice none for no limit"),
        ("l2=uniform(0,inf)", "'inf' is no finite number", 14, "expected a number, or in a choice none for no limit"),
        ("l2=uniform(-inf,0)", "'inf' is no finite number", 13, "expected a number, or in a choice none for no limit"),
        ("clip_norm=choice(1,inf)", "'inf' is no finite number", 20, "expected a number, or in a choice none for no limit"),
        ("l2=uniform(0,1e999)", "'1e999' is no finite number", 14, "expected a smaller one"),
        ("l2=uniform(0,1/0)", "1 / 0 divides by zero", 14, "expected a number"),
        ("l2=uniform(0,9**9**9)", "9 ** 387420489 is no finite real number", 14, "expected a number"),
        ("l2=uniform(0,(-8)**0.5)", "-8 ** 0.5 is no finite real number", 14, "expected a number"),
        ("l2=grid(1,a)", "grid has 'a'", 11, "expected a number; choice(...) takes words"),
        ("l2=grid(1,none)", "grid has none", 11, "expected a number; choice(...) takes words"),
        (
            "l2=grid(1,3,2)",
            "grid's values are in no order",
            13,
            "expected them rising or falling; choice(...) takes any order",
        ),
        ("l2=grid(1,3,1.0)", "grid has 1 twice", 13, "expected each value once"),
        ("l2=choice(1,2,1)", "choice has 1 twice", 15, "expected each value once"),
        ("optimizer=choice(a,'a')", "choice has 'a' twice", 20, "expected each value once"),
        ("hidden_sizes=choice('8,8','8, 8')", "choice has (8, 8) twice", 27, "expected each value once"),
        ("optimizer=choice('')", "an empty text", 18, "expected a number, a word or a text in quotes"),
        ("hidden_sizes=choice((64,64),1)", "'(64,64)' is no number and no plain word", 21, LITERAL),
        ("train_steps=choice(3*4,1)", "'3*4' is no number and no plain word", 20, LITERAL),
        # Values out of their domain.
        ("learning_rate=uniform(0,1)", "learning_rate is 0.0", 23, POSITIVE),
        ("momentum=uniform(0.5,1.5)", "momentum is 1.5", 22, "expected a number in [0, 1), as float32"),
        ("momentum=log(0.5,1,3)", "momentum is 1.0", 18, "expected a number in [0, 1), as float32"),
        ("momentum=grid(0.5,1)", "momentum is 1", 19, "expected a number in [0, 1), as float32"),
        ("momentum=1-log(1e-9,0.5)", "momentum is 0.999999999", 10, "expected a number in [0, 1), as float32"),
        ("momentum=1-uniform(0,1)", "momentum is 1.0", 10, "expected a number in [0, 1), as float32"),
        ("width=int(0,4)", "width is 0", 11, "expected a whole number in [1, 2^31)"),
        ("width=int(1,2147483648)", "width is 2147483648", 13, "expected a whole number in [1, 2^31)"),
        ("width=range(4)", "width is 0", 13, "expected a whole number in [1, 2^31)"),
        ("width=grid(1,2.5)", "width is 2.5", 14, "expected a whole number"),
        ("width=choice(a,b)", "width is 'a'", 14, "expected a number"),
        ("batch_size=choice(none,1)", "batch_size is none", 19, "expected a whole number in [1, 2^31)"),
        (
            "width=log(16,64)",
            "width is a whole number, log draws others",
            7,
            "expected int(low,high), grid(...) or choice(...)",
        ),
        ("width=uniform(16,64,6)", "width is 25.6", 18, "expected a whole number"),
        ("width=16*uniform(1,2)", f"width is {16 * (1 + (3 - 5**0.5) / 2)}", 7, "expected a whole number"),
        ("width=int(1,4)/2", "width is 0.5", 7, "expected a whole number"),
        ("optimizer=log(1,2)", "optimizer is no number, log draws others", 11, "expected choice(...)"),
        ("optimizer=choice(true,a)", "optimizer is True", 18, "expected a text of one line, no space at its ends"),
        (
            "norm=choice(batch,grup)",
            "norm is 'grup'",
            19,
            "expected one of batch, group, layer, none, frozen_batch; did you mean 'group'?",
        ),
        ("nesterov=choice(0,1)", "nesterov is 0", 17, "expected true or false"),
        (
            "train_steps=choice('3epocs')",
            "train_steps: '3epocs': unit 'epocs' is unknown",
            20,
            "did you mean 'epochs'? known: steps, epochs, examples, %",
        ),
        ("learning_rate=momentum-grid(0.5,0.9)", "learning_rate is 0.0", 15, POSITIVE),
        ("learning_rate=1/(momentum-grid(0.5,0.9))", "1 / 0 divides by zero", 15, "expected a number"),
        (
            "learning_rate=(momentum-grid(0.5,1))**0.5",
            "-0.09999999999999998 ** 0.5 is no finite real number",
            15,
            "expected a number",
        ),
        # Expressions.
        (
            "learning_rate=0.1",
            "'0.1' does not vary",
            15,
            "expected for example learning_rate=choice(...); a fixed value is the flag --learning_rate",
        ),
        (
            "learning_rate=2*(3-1)",
            "'2*(3-1)' does not vary",
            15,
            "expected for example learning_rate=choice(...); a fixed value is the flag --learning_rate",
        ),
        ("l2=momentm*log(1,2)", "setting 'momentm' is unknown", 4, "did you mean 'momentum'?"),
        ("l2=zzz*log(1,2)", "setting 'zzz' is unknown", 4, "expected a setting, a number or a distribution"),
        (
            "l2=log(1,2) if model==mlp else fast",
            "setting 'fast' is unknown",
            32,
            "expected a setting, a number or a distribution",
        ),
        (
            "l2=dropout_rate*log(1,2)",
            "'dropout_rate' is not set",
            4,
            "expected a value: give --dropout_rate=VALUE, or vary it",
        ),
        ("l2=optimizer*log(1,2)", "'optimizer' is no number", 4, "expected a setting that is one, or a text in quotes"),
        ("l2=train_steps*log(1,2)", "'train_steps' is no number", 4, "expected a setting that is one, or a text in quotes"),
        ("l2=nesterov*log(1,2)", "'nesterov' is no number", 4, "expected a setting that is one, or a text in quotes"),
        ("l2='a'*log(1,2)", "'a' stands in arithmetic", 4, "expected a number"),
        ("l2=none*log(1,2)", "'none' stands in arithmetic", 4, "expected a number"),
        ("l2=1-choice(1,a)", "'a' stands in arithmetic", 15, "expected a number"),
        ("l2=l2*log(1,2)", "'l2' closes a circle (l2 -> l2)", 4, "expected settings that do not need one another"),
        ("l2=a.b", "'a.b' is not part of the language", 4, LANGUAGE),
        ("l2=a[0]", "'a[0]' is not part of the language", 4, LANGUAGE),
        ("l2=lambda: 1", "'lambda: 1' is not part of the language", 4, LANGUAGE),
        ("l2=[1,2]", "'[1,2]' is a list", 4, "expected grid(...) of numbers in order, or choice(...)"),
        ("l2=1,2", "'1,2' is a list", 4, "expected grid(...) of numbers in order, or choice(...)"),
        ("l2=log", "'log' has no arguments", 4, LOG),
        ("l2={1:2}", "'{1:2}' is not part of the language", 4, LANGUAGE),
        ("l2=1//uniform(1,2)", "'1//uniform(1,2)' is not part of the language", 4, LANGUAGE),
        ("l2=~1", "'~1' is not part of the language", 4, LANGUAGE),
        ("l2=1j", "'1j' is not part of the language", 4, LANGUAGE),
        ("l2=b'a'", "'b'a'' is not part of the language", 4, LANGUAGE),
        ("l2=...", "'...' is not part of the language", 4, LANGUAGE),
        ("l2=(a:=1)", "'a:=1' is not part of the language", 5, LANGUAGE),
        ("l2=f'{a}'", "'f'{a}'' is not part of the language", 4, LANGUAGE),
        ("l2=[a for a in b]", "'[a for a in b]' is not part of the language", 4, LANGUAGE),
        (
            "l2=__import__('os').system('x')",
            "function '__import__('os').system' is unknown",
            4,
            "known: log, uniform, int, choice, grid, range",
        ),
        ("l2=1e999*log(1,2)", "'1e999' is no finite number", 4, "expected a smaller one"),
        (f"l2={'9' * 400}*log(1,2)", f"'{'9' * 400}' is no finite number", 4, "expected a smaller one"),
        # What cannot be read.
        ("l2=log(1,2", "a parenthesis that is never closed", 7, "expected ')'"),
        ("l2=(log(1,2)", "a parenthesis that is never closed", 4, "expected ')'"),
        ("l2=log(1,2))", "')' cannot be read", 12, EXAMPLES),
        ("l2=log(1,2)+", "the expression ends too early", 13, EXAMPLES),
        ("l2=a b", "'b' cannot be read", 6, EXAMPLES),
        ("l2==log(1,2)", "a single '='", 4, "expected '==' in a condition, '=' behind the name only"),
        ("l2=log(1,2) if model=mlp", "a single '='", 21, "expected '==' in a condition, '=' behind the name only"),
        ("optimizer=choice('a=(', b c)", "'b c)' cannot be read", 25, EXAMPLES),
        ("l2=log(1,2) # note", "'# note' is not read", 13, "expected the end of the text"),
        ("l2=log(1,2); x", "'; x' cannot be read", 12, EXAMPLES),
        ("train_steps=choice(3epochs)", "'3epochs)' cannot be read", 20, EXAMPLES),
        ("optimizer=choice(optax:sgd)", "':sgd)' cannot be read", 23, EXAMPLES),
        ("learning_rate=\u00e4+log(0,1)", "log's lower bound is 0", 21, "expected a number > 0"),
        # Conditions.
        ("l2=1==2", "'1==2' is a condition", 4, "expected VALUE if CONDITION else VALUE"),
        ("l2=not momentum", "'not momentum' is a condition", 4, "expected VALUE if CONDITION else VALUE"),
        (
            "l2=log(1,2) if momentum",
            "'momentum' is no condition",
            16,
            "expected for example optimizer==adam or batch_size>=64",
        ),
        (
            "l2=log(1,2) if 1<momentum",
            "'1<momentum' is no condition",
            16,
            "expected for example optimizer==adam or batch_size>=64",
        ),
        (
            "l2=log(1,2) if momentum*2<1",
            "'momentum*2<1' is no condition",
            16,
            "expected for example optimizer==adam or batch_size>=64",
        ),
        (
            "l2=log(1,2) if model is mlp",
            "'model is mlp' is no condition",
            16,
            "expected for example optimizer==adam or batch_size>=64",
        ),
        (
            "l2=log(1,2) if 0<momentum<1",
            "'0<momentum<1' compares twice",
            16,
            "expected one comparison at a time, joined by 'and'",
        ),
        (
            "l2=log(1,2) if model in mlp",
            "'mlp' stands after 'in'",
            25,
            "expected values in parentheses: (a,b), or (a,) of one",
        ),
        ("l2=log(1,2) if modl==mlp", "setting 'modl' is unknown", 16, "did you mean 'model'?"),
        ("l2=log(1,2) if model<mlp", "'model' is no number", 16, "expected ==, != or in, not <"),
        ("l2=log(1,2) if momentum==high", "'momentum' is compared with 'high'", 26, "expected a number"),
        ("l2=log(1,2) if momentum<none", "'momentum' is compared with none", 25, "expected a number"),
        ("l2=log(1,2) if momentum<1+1", "'1+1' is no number and no plain word", 25, LITERAL),
        (
            "l2=log(1,2) if dropout_rate>0",
            "'dropout_rate' is not set",
            16,
            "expected a value: give --dropout_rate=VALUE, or vary it",
        ),
        (
            "l2=log(1,2) if norm==bach",
            "norm is 'bach'",
            22,
            "expected one of batch, group, layer, none, frozen_batch; did you mean 'batch'?",
        ),
        ("l2=(log(1,2) if model==mlp)*2", "'log(1,2) if model==mlp)*2' cannot be read", 5, EXAMPLES),
    ],
)
def test_one_line_for_each(text, came, at, expected):
    assert error(text) == f"vary '{text}': {came} at character {at}; {expected}"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["l2=log(0.1,1)", "l2=log(0.1,1)"],
            "vary 'l2=log(0.1,1)': 'l2' is varied twice at character 1; expected one text for each setting",
        ),
        (
            ["seed=range(2)", "seed=range(3)"],
            "vary 'seed=range(3)': 'seed' is varied twice at character 1; expected one text for each setting",
        ),
        (
            ["l2=2*l1", "l1=3*dropout_rate", "dropout_rate=l2*uniform(0,0.5)"],
            "vary 'l2=2*l1': 'l1' closes a circle (l2 -> l1 -> dropout_rate -> l2) at character 6; "
            "expected settings that do not need one another",
        ),
        (
            ["l2=log(0.1,1) if l1>0.5", "l1=l2*uniform(0,1)"],
            "vary 'l2=log(0.1,1) if l1>0.5': 'l1' closes a circle (l2 -> l1 -> l2) at character 18; "
            "expected settings that do not need one another",
        ),
        (
            ["seed=range(2)", "l2=seed*uniform(0,1)"],
            "vary 'l2=seed*uniform(0,1)': 'seed' repeats every point at character 4; "
            "expected a hyperparameter, the same in all repetitions",
        ),
        (
            ["fold=range(2)", "l2=uniform(0,1) if fold==1"],
            "vary 'l2=uniform(0,1) if fold==1': 'fold' repeats every point at character 20; "
            "expected a hyperparameter, the same in all repetitions",
        ),
        (
            ["optimizer=choice(adam,lion)", "l2=uniform(0,1) if optimizer==adm"],
            "vary 'l2=uniform(0,1) if optimizer==adm': 'optimizer' is never 'adm' at character 31; "
            "did you mean 'adam'? expected one of adam, lion",
        ),
        (
            ["batch_size=grid(32,64)", "l2=uniform(0,1) if batch_size in (32,65)"],
            "vary 'l2=uniform(0,1) if batch_size in (32,65)': 'batch_size' is never 65 at character 38; "
            "expected one of 32, 64",
        ),
        (
            ["optimizer=choice(adam,lion)", "dropout_rate=0.5 if optimizer==adam", "l2=dropout_rate*0.1"],
            "vary 'l2=dropout_rate*0.1': 'dropout_rate' has no value at character 4; "
            "expected one that is set: give --dropout_rate=VALUE",
        ),
        (
            ["clip_norm=choice(1,none)", "l2=uniform(0,1) if clip_norm>0.5"],
            "vary 'l2=uniform(0,1) if clip_norm>0.5': 'clip_norm' has no value at character 20; "
            "expected one that is set: give --clip_norm=VALUE",
        ),
        (
            ["batch_size=choice(32,64)", "width=batch_size/64"],
            "vary 'width=batch_size/64': width is 0.5 at character 7; expected a whole number",
        ),
        (
            ["seed=range(2000)", "data_seed=range(2000)"],
            "vary 'data_seed=range(2000)': 4000000 repetitions of every point at character 11; expected at most 1000000",
        ),
        (
            ["learning_rate"],
            "vary 'learning_rate' has no name and equals sign; expected for example learning_rate=log(1e-4,1)",
        ),
        (["=log(1,2)"], "vary '=log(1,2)' has no name and equals sign; expected for example learning_rate=log(1e-4,1)"),
        (["l2= "], "vary 'l2= ': nothing stands after '='; expected for example l2=log(1e-4,1)"),
        (["l2=log(1,\x00)"], "vary has 'l2=log(1,\\x00)'; expected a text of one line: name=expression"),
        (["l2=log(\udcff)"], "vary has 'l2=log(\\udcff)'; expected a text of one line: name=expression"),
        ([3], "vary has 3; expected a text of one line: name=expression"),
    ],
)
def test_several_texts_and_no_texts(texts, message):
    assert error(*texts) == message


@pytest.mark.parametrize(
    ("texts", "came", "at"),
    [
        (["l2=uniform(0,1) if optimizer==sgdd"], "'optimizer' is never 'sgdd' at character 31; did you mean 'sgd'?", None),
        (["l2=log(1,2) if model!=cn"], "'model' is never 'cn' at character 23; did you mean 'cnn'?", None),
        (
            ["l2=log(1,2) if schedule in (cosin,)"],
            "'schedule' is never 'cosin' at character 29; did you mean 'cosine'?",
            None,
        ),
        (["l2=log(1,2) if augment==flop"], "'augment' is never 'flop' at character 25; did you mean 'flip'?", None),
        (["beta1=uniform(0,0.9) if optimizer==adam"], "'beta1' is varied in no trial (optimizer is momentum)", 25),
        (["optimizer=choice(adam,lion)", "l2=log(1,2) if optimizer!=adam and optimizer!=lion"], "", 16),
        (["batch_size=choice(32,64)", "l2=uniform(0,1) if batch_size>64"], "'l2' is varied in no trial: its", 20),
        (["l1=uniform(0,1)", "l2=uniform(0,1) if l1>0.5 and l1<0.5"], "'l2' is varied in no trial: its", 20),
        (["l1=uniform(0,1) if dropout_rate>0.5", "dropout_rate=uniform(0,0.5)"], "'l1' is varied in no trial: its", 20),
    ],
)
def test_conditions_that_never_hold(texts, came, at):
    message = error(*texts)
    assert came in message
    assert at is None or f" at character {at}; expected one that can hold, or no text for it" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "texts",
    [
        ["l2=uniform(0,1) if optimizer=='optax:sgd' or batch_size>1"],
        ["l2=uniform(0,1) if schedule!='cosine(end_factor=0.1)'"],
        ["l1=uniform(0,1)", "l2=uniform(0,1) if l1>0.5 and l1<=0.5000001"],
        ["l1=uniform(0,1)/2", "l2=uniform(0,1) if l1>0.7"],
        ["l1=int(1,5000)", "l2=uniform(0,1) if l1==4999"],
    ],
)
def test_conditions_that_may_hold(texts):
    assert "l2" in Space.parse(texts, BASE).names


@pytest.mark.parametrize("name", NOT_VARIED)
def test_settings_that_cannot_be_varied(name):
    expected = f"'{name}' cannot be varied at character 1; expected the flag --{name}: {NOT_VARIED[name]}"
    assert error(f"{name}=choice(1,2)") == f"vary '{name}=choice(1,2)': {expected}"


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 300 + "1" + ")" * 300,
        "-" * 5000 + "1",
        "1+" * 5000 + "1",
        "log(" * 90 + "1" + ")" * 90,
        "not " * 3000 + "l1==1",
        "1 if l1==1 else " * 3000 + "1",
        "((((" * 20 + "1",
        "-" * 160 + "uniform(0,1)",
        "uniform(0," + "-" * 900 + "1)",
    ],
)
def test_what_is_nested_too_deeply_is_one_line(expression):
    message = error(f"l2={expression}")
    assert "\n" not in message
    assert message.startswith(f"vary 'l2={expression}': ")


WORDS = [
    "log(",
    "uniform(",
    "int(",
    "choice(",
    "grid(",
    "range(",
    "(",
    ")",
    ",",
    "1",
    "0.5",
    "1e-3",
    "-",
    "+",
    "*",
    "/",
    "**",
]
WORDS += [
    " if ",
    " else ",
    "optimizer",
    "==",
    "<",
    " in ",
    " and ",
    " or ",
    " not ",
    "adam",
    "momentum",
    "batch_size",
    "'",
    "none",
]
WORDS += [
    "l2",
    "seed",
    ".",
    "[",
    "]",
    ":",
    "=",
    "#",
    "\\",
    "\u00e9",
    "1e999",
    "nan",
    "lambda ",
    "{",
    "}",
    "@",
    "\t",
    "\n",
    "true",
]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["learning_rate", "l2", "batch_size", "optimizer", "norm", "hidden_sizes", "seed"]),
    st.one_of(st.lists(st.sampled_from(WORDS), max_size=14).map("".join), st.text(max_size=20), st.text(string.printable)),
)
def test_any_text_is_a_space_or_one_line(name, expression):
    try:
        made = Space.parse([f"{name}={expression}"], BASE)
    except ConfigError as refused:
        assert "\n" not in str(refused)
        assert str(refused).startswith("vary ")
        return
    assert Space.parse(made.texts, BASE).texts == made.texts
    made.values([0.5] * len(made.leaves))
