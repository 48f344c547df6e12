"""The command line: flags, their environment variables, and one line for what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import app
from model_loader.errors import InvalidSetting

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def parse(*arguments: str, **environment: str) -> dict[str, object]:
    parser = app.build_parser(environment)
    return vars(parser.parse_args([*app.environment_arguments(parser, environment), *arguments]))


@pytest.mark.parametrize("command", [[], ["chat"]])
def test_help_imports_neither_torch_nor_gradio(command: list[str]) -> None:
    program = (
        "import sys, app\n"
        f"try: app.main([*{command}, '--help'], {{}})\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'gradio', 'transformers', 'rich', 'prompt_toolkit') if name in sys.modules])"
    )
    result = run("-c", program)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"
    assert "--checkpoint-path" in result.stdout


def test_the_defaults_are_those_of_the_qwen_demo() -> None:
    given = parse()
    assert (given["checkpoint_path"], given["server_name"], given["server_port"]) == ("builtin", "127.0.0.1", 8000)
    assert not any(given[name] for name in ("cpu_only", "share", "inbrowser"))


@pytest.mark.parametrize("hosted", [{"SPACE_ID": "someone/space"}, {"MODELSCOPE_ENVIRONMENT": "studio"}])
def test_a_hosted_page_listens_where_its_host_expects_it(hosted: dict[str, str]) -> None:
    given = parse(**hosted)
    assert (given["server_name"], given["server_port"]) == ("0.0.0.0", 7860)
    assert parse(**hosted, QWEN_DEMO_SERVER_PORT="9000")["server_port"] == 9000


def test_every_flag_is_also_an_environment_variable_and_the_command_line_wins() -> None:
    environment = {"QWEN_DEMO_CHECKPOINT_PATH": "some/folder", "QWEN_DEMO_CPU_ONLY": "1", "QWEN_DEMO_LINGER": "3"}
    given = parse(**environment)
    assert (given["checkpoint_path"], given["cpu_only"], given["linger"]) == ("some/folder", True, 3.0)
    assert parse("-c", "builtin", **environment)["checkpoint_path"] == "builtin"
    assert parse(QWEN_DEMO_CPU_ONLY="0")["cpu_only"] is False


def test_a_variable_of_another_command_is_left_to_it() -> None:
    environment = {"QWEN_DEMO_SEED": "7", "QWEN_DEMO_SERVER_PORT": "9000", "QWEN_DEMO_HISTORY": "/somewhere"}
    assert parse(**environment)["server_port"] == 9000
    parser = app.build_chat_parser()
    given = parser.parse_args(app.environment_arguments(parser, environment))
    assert (given.seed, given.history) == (7, Path("/somewhere"))
    with pytest.raises(InvalidSetting, match="did you mean QWEN_DEMO_SEED"):
        app.environment_arguments(parser, {"QWEN_DEMO_SED": "1"})


def test_the_chat_has_the_seed_of_the_demo_and_its_flags_as_variables() -> None:
    parser = app.build_chat_parser()
    assert parser.parse_args([]).seed == 1234
    assert parser.parse_args(["-s", "5"]).seed == 5
    environment = {"QWEN_DEMO_SYSTEM": "-brief-", "QWEN_DEMO_NO_HISTORY": "1", "QWEN_DEMO_CONTEXT_LENGTH": "512"}
    given = parser.parse_args(app.environment_arguments(parser, environment))
    assert (given.system, given.no_history, given.context_length) == ("-brief-", True, 512)


@pytest.mark.parametrize("arguments", [["profile", "--quick"], ["evaluate", "perplexity", "README.md"]])
def test_the_measuring_commands_take_the_environment_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(arguments, {"QWEN_DEMO_CHECKPOINT_PATH": "/no/such/folder", "QWEN_DEMO_CPU_ONLY": "1"}) == 2
    assert "/no/such/folder" in capsys.readouterr().err


def test_a_home_in_a_path_is_the_users() -> None:
    assert parse("--history=~/x.db")["history"] == Path.home() / "x.db"


def test_an_environment_variable_that_is_no_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidSetting, match="did you mean QWEN_DEMO_SERVER_PORT"):
        parse(QWEN_DEMO_SERVR_PORT="1")
    with pytest.raises(InvalidSetting, match="QWEN_DEMO_CPU_ONLY is 'maybe'; use 1 or 0"):
        parse(QWEN_DEMO_CPU_ONLY="maybe")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--auth", "ann"], "--auth number 1 has no colon"),
        (["--auth", "ann:a", "--public"], "--public lets everybody in"),
        (["--auth-file", "/nonexistent"], "--auth-file /nonexistent cannot be read"),
        (["--max-guests", "0"], "--max-guests is 0"),
        (["--login-hours=-1"], "--login-hours is -1"),
        (["--server-port", "0"], "--server-port is 0; give a number from 1 to 65,535"),
        (["--server-port", "70000"], "--server-port is 70000"),
        (["--server-name", "evil host"], "--server-name is 'evil host'"),
        (["--long-context", "yarn"], "--long-context is 'yarn'; use ntk, logn"),
        (["--linger=-1"], "--linger is -1.0"),
        (["--linger=nan"], "--linger is nan"),
        (["--base-url", "gpu1:8000"], "--base-url is 'gpu1:8000'; give an http or https URL"),
        (["--base-url", "http://me:pw@gpu1/v1"], "--base-url holds a name or password"),
        (["--base-url", "http://gpu1/v1", "--precision", "int4"], "--precision concerns a model that is loaded here"),
        (["--base-url", "http://gpu1/v1", "--allow-model-switch"], "--allow-model-switch concerns a model"),
        (["--base-url", "http://gpu1/v1", "--context-length", "1"], "--context-length is 1; give 64 tokens or more"),
        (["--base-url-key", "k3y"], "give its address with --base-url"),
        (["--server-port", "-1"], "--server-port is -1"),
        (["--server-name="], "--server-name is ''"),
        (["--server-name", "a/b"], "--server-name is 'a/b'"),
        (["--keep-days", "nan"], "--keep-days is nan"),
        (["--keep-days", "0"], "--keep-days is 0"),
        (["chat", "--seed=-1"], "seed is -1; give a whole number from 0"),
    ],
)
def test_bad_values_end_with_one_line_and_status_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(arguments, {}) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1


def test_the_key_of_a_server_may_stand_in_the_environment_and_is_never_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = {"QWEN_DEMO_BASE_URL": "http://gpu1/v1", "QWEN_DEMO_BASE_URL_KEY": "k3y with a space"}
    assert parse(**environment)["base_url_key"] == "k3y with a space"
    assert app.main([], environment) == 2
    assert "k3y" not in capsys.readouterr().err


def test_a_model_elsewhere_needs_no_torch() -> None:
    program = (
        "import sys, model_loader.remote.remote_model, ui.chat.answers\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    assert run("-c", program).stdout.splitlines() == ["[]"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["--server-port", "abc"],
        ["--precision", "int3"],
        ["--serv", "1"],
        ["chat", "--server-port", "1"],
        ["--server-port", "1e3"],
        ["--server-port="],
        ["--keep-days", "soon"],
        ["--context-length", "1e20"],
        ["--context-length="],
        ["--no-history=1"],
        ["--hub", "evil"],
        ["stray"],
    ],
)
def test_unknown_flags_and_values_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        app.main(arguments, {})
    assert caught.value.code == 2


def test_a_flag_given_twice_counts_as_given_last() -> None:
    assert parse("--server-port", "1", "--server-port", "9000")["server_port"] == 9000


@pytest.mark.parametrize("name", ["", "/etc/passwd", "x" * 300, "../../etc", "a\nb", "\0"])
def test_a_name_that_is_no_checkpoint_is_one_clear_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["profile", "--quick", "-c", name], {}) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_reader_of_the_help_may_leave_after_a_line() -> None:
    with subprocess.Popen(
        [sys.executable, "app.py", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    "environment", [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"HOME": "/nowhere"}]
)
def test_a_name_in_any_script_is_told_in_any_terminal(environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "app.py", "profile", "--quick", "-c", "/没有/文件夹"],
        cwd=ROOT, capture_output=True, timeout=60, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert b"There is no folder" in result.stderr
    assert b"Traceback" not in result.stderr
