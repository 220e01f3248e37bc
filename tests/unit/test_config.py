from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapekit.config import (
    Source,
    as_source,
    from_environment,
    from_project,
    merge,
    parse_assignments,
    project_config,
)
from scrapekit.errors import SettingsError
from scrapekit.settings import Settings, changed

UNREADABLE = Path("/proc/self/mem")

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "concurrency": st.integers(1, 9),
        "delay_s": st.floats(0, 9),
        "obey_robots": st.booleans(),
        "user_agent": st.sampled_from(["a", "b"]),
        "headers": st.dictionaries(st.sampled_from("abc"), st.sampled_from("def")),
        "accept_statuses": st.lists(st.integers(400, 499)).map(tuple),
        "max_depth": st.none() | st.integers(0, 9),
    },
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class TestMerge:
    def test_no_source_leaves_the_defaults(self) -> None:
        assert merge() == merge(None) == Settings()

    @given(st.lists(VALUES, max_size=5))
    def test_later_wins_setting_by_setting(self, layers: list[dict[str, Any]]) -> None:
        union = {name: value for layer in layers for name, value in layer.items()}
        sources = [Source(str(number), layer) for number, layer in enumerate(layers)]
        assert merge(*sources) == Settings(**union)

    @given(st.lists(VALUES, max_size=4))
    def test_missing_sources_change_nothing(self, layers: list[dict[str, Any]]) -> None:
        sources = [Source("a", layer) for layer in layers]
        assert merge(None, *(part for one in sources for part in (one, None))) == merge(*sources)

    @given(VALUES, VALUES)
    def test_merging_in_two_steps_is_merging_at_once(
        self, low: dict[str, Any], high: dict[str, Any]
    ) -> None:
        merged = as_source("merged", merge(Source("low", low)))
        assert merge(merged, Source("high", high)) == merge(
            Source("low", low), Source("high", high)
        )

    def test_a_table_is_replaced_whole(self) -> None:
        low = as_source("low", {"headers": {"Accept": "text/html", "DNT": "1"}})
        high = as_source("high", {"headers": {"Accept": "*/*"}})
        assert merge(low, high).headers == {"Accept": "*/*"}

    def test_a_bad_value_is_an_error_even_if_a_later_one_is_good(self) -> None:
        with pytest.raises(SettingsError, match=r"^low: setting 'threads' is 0; "):
            merge(as_source("low", {"threads": 0}), as_source("high", {"threads": 1}))

    def test_all_sources_in_their_order(self, tmp_path: Path) -> None:
        write(
            tmp_path / "scrapekit.toml",
            "concurrency = 2\nthreads = 2\nretries = 2\nmax_pages = 2\nmax_depth = 2",
        )
        environ = {
            "SCRAPEKIT_THREADS": "3",
            "SCRAPEKIT_RETRIES": "3",
            "SCRAPEKIT_MAX_PAGES": "3",
            "SCRAPEKIT_MAX_DEPTH": "3",
        }
        merged = merge(
            from_project(tmp_path),
            from_environment(environ),
            as_source("the spider", {"retries": 4, "max_pages": 4, "max_depth": 4}),
            as_source("the call", Settings(max_pages=5, max_depth=5)),
            parse_assignments(["max_depth=6"]),
        )
        assert merged == Settings(concurrency=2, threads=3, retries=4, max_pages=5, max_depth=6)


class TestAsSource:
    def test_of_settings_only_what_differs_from_the_defaults_counts(self) -> None:
        low = as_source("the spider", {"concurrency": 5, "threads": 5})
        high = as_source("the call", Settings(concurrency=32, threads=6))
        assert merge(low, high) == Settings(concurrency=5, threads=6)

    def test_a_dict_can_set_back_to_the_default(self) -> None:
        low = as_source("the spider", {"concurrency": 5, "max_depth": 5})
        high = as_source("the call", {"concurrency": 32, "max_depth": None})
        assert merge(low, high) == Settings()

    @given(VALUES)
    def test_settings_come_out_as_they_went_in(self, values: dict[str, Any]) -> None:
        settings = Settings(**values)
        assert merge(as_source("the spider", settings)) == settings
        assert merge(as_source("the spider", changed(settings))) == settings

    def test_none_is_an_empty_source(self) -> None:
        assert merge(as_source("the spider", None)) == Settings()

    @pytest.mark.parametrize("value", [5, "threads=5", ["threads"], object()])
    def test_anything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(SettingsError, match=r"^the spider: settings are a Settings or a dict"):
            as_source("the spider", value)

    def test_strings_in_a_dict_are_not_converted(self) -> None:
        with pytest.raises(SettingsError, match=r"^the spider: setting 'threads' is '5'; "):
            merge(as_source("the spider", {"threads": "5"}))

    def test_an_unknown_name_is_told_with_the_nearest(self) -> None:
        with pytest.raises(SettingsError, match=r"^the spider: .*did you mean 'concurrency'"):
            merge(as_source("the spider", {"concurency": 5}))


class TestAssignments:
    def test_values_are_converted_by_the_type_of_their_setting(self) -> None:
        assignments = [
            "concurrency=5",
            "obey_robots=false",
            "user_agent=a=b",
            "accept_statuses=404,410",
            'headers={"Accept": "a,b"}',
        ]
        assert merge(parse_assignments(assignments)) == Settings(
            concurrency=5,
            obey_robots=False,
            user_agent="a=b",
            accept_statuses=(404, 410),
            headers={"Accept": "a,b"},
        )

    def test_the_later_of_two_wins(self) -> None:
        assert merge(parse_assignments(["threads=2", " threads = 3"])).threads == 3

    @pytest.mark.parametrize("assignment", ["threads", "", "threads:5"])
    def test_without_an_equals_sign_it_is_refused(self, assignment: str) -> None:
        with pytest.raises(SettingsError, match=r"^-s '.*': expected NAME=VALUE$"):
            parse_assignments([assignment])

    def test_errors_name_the_option(self) -> None:
        with pytest.raises(SettingsError, match=r"^--set: setting 'threads' is 'x'; ") as caught:
            merge(parse_assignments(["threads=x"], source="--set"))
        assert (caught.value.name, caught.value.source) == ("threads", "--set")

    @pytest.mark.parametrize("name", ["", "delay-s", "THREADS"])
    def test_names_are_exact(self, name: str) -> None:
        with pytest.raises(SettingsError, match=f"^-s: unknown setting '{name}'"):
            merge(parse_assignments([f"{name}=1"]))

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("domains.example.com.delay_s", """'domains={"example.com": {"delay_s": ...}}'"""),
            ("domains.example.com", """'domains={"example.com": {"delay_s": ...}}'"""),
            ("headers.X-Tea", """'headers={"X-Tea": ...}'"""),
        ],
    )
    def test_the_path_to_an_entry_of_a_table_is_told_as_a_table(self, name: str, hint: str) -> None:
        with pytest.raises(SettingsError) as caught:
            merge(parse_assignments([f"{name}=1"]))
        table = name.partition(".")[0]
        message = f"-s: unknown setting '{name}'; {table} is a table, set as a whole: {hint}"
        assert str(caught.value) == message


class TestEnvironment:
    def test_variables_are_the_names_in_capitals(self) -> None:
        environ = {"SCRAPEKIT_MAX_DEPTH": "3", "SCRAPEKIT_VERIFY_TLS": "false"}
        assert merge(from_environment(environ)) == Settings(max_depth=3, verify_tls=False)

    def test_other_variables_are_none_of_ours(self) -> None:
        environ = {"PATH": "/bin", "CONCURRENCY": "5", "scrapekit_threads": "5", "SCRAPEKIT": "5"}
        assert merge(from_environment(environ)) == Settings()

    @pytest.mark.parametrize(
        "variable", ["SCRAPEKIT_VECTORS", "SCRAPEKIT_TEST_SEED", "SCRAPEKIT_BENCH_PAGES"]
    )
    def test_variables_of_the_tests_are_ignored(self, variable: str) -> None:
        assert from_environment({variable: "x"}).values == {}

    def test_an_unknown_variable_is_told_with_the_nearest(self) -> None:
        with pytest.raises(SettingsError) as caught:
            from_environment({"SCRAPEKIT_THREAD": "5"})
        message = "SCRAPEKIT_THREAD: no such setting; did you mean 'SCRAPEKIT_THREADS'?"
        assert str(caught.value) == message
        assert (caught.value.name, caught.value.source) == ("thread", "SCRAPEKIT_THREAD")

    def test_a_bad_value_is_told_with_its_variable(self) -> None:
        with pytest.raises(SettingsError) as caught:
            merge(from_environment({"SCRAPEKIT_THREADS": "many"}))
        assert str(caught.value) == (
            "SCRAPEKIT_THREADS: setting 'threads' is 'many'; expected a whole number from 1 to 1000"
        )
        assert caught.value.source == "SCRAPEKIT_THREADS"


class TestProject:
    def test_scrapekit_toml_has_the_settings_at_its_top(self, tmp_path: Path) -> None:
        write(tmp_path / "scrapekit.toml", 'threads = 2\n[headers]\nAccept = "*/*"\n')
        assert merge(from_project(tmp_path)) == Settings(threads=2, headers={"Accept": "*/*"})

    def test_pyproject_toml_has_them_in_its_table(self, tmp_path: Path) -> None:
        write(tmp_path / "pyproject.toml", "[tool.scrapekit]\nthreads = 2\n[tool.ruff]\nx = 1\n")
        assert merge(from_project(tmp_path)) == Settings(threads=2)

    def test_scrapekit_toml_wins_in_one_folder(self, tmp_path: Path) -> None:
        write(tmp_path / "scrapekit.toml", "threads = 2")
        write(tmp_path / "pyproject.toml", "[tool.scrapekit]\nthreads = 3\nretries = 3")
        assert merge(from_project(tmp_path)) == Settings(threads=2)

    def test_the_nearest_folder_wins(self, tmp_path: Path) -> None:
        write(tmp_path / "scrapekit.toml", "threads = 2\nretries = 9")
        write(tmp_path / "a" / "pyproject.toml", "[tool.scrapekit]\nthreads = 3")
        folder = tmp_path / "a" / "b" / "c"
        folder.mkdir(parents=True)
        assert merge(from_project(folder)) == Settings(threads=3)

    def test_a_pyproject_toml_without_the_table_is_passed_by(self, tmp_path: Path) -> None:
        write(tmp_path / "scrapekit.toml", "threads = 2")
        write(tmp_path / "a" / "pyproject.toml", "[project]\nname = 'a'")
        write(tmp_path / "a" / "b" / "pyproject.toml", "tool = 5")
        assert merge(from_project(tmp_path / "a" / "b")) == Settings(threads=2)

    def test_an_empty_scrapekit_toml_ends_the_search(self, tmp_path: Path) -> None:
        write(tmp_path / "scrapekit.toml", "threads = 2")
        write(tmp_path / "a" / "scrapekit.toml", "")
        assert merge(from_project(tmp_path / "a")) == Settings()

    def test_a_folder_named_like_a_project_file_is_passed_by(self, tmp_path: Path) -> None:
        (tmp_path / "scrapekit.toml").mkdir()
        write(tmp_path / "pyproject.toml", "[tool.scrapekit]\nthreads = 3")
        assert merge(from_project(tmp_path)) == Settings(threads=3)

    def test_without_a_project_file_there_is_no_source(self, tmp_path: Path) -> None:
        # Whether a folder above has one is not this test's to say.
        write(tmp_path / "pyproject.toml", "[project]\nname = 'a'")
        found = project_config(tmp_path)
        assert found is None or tmp_path not in found.path.parents

    def test_a_relative_folder_is_searched_by_its_real_parents(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "scrapekit.toml", "threads = 2")
        write(tmp_path / "a" / "scrapekit.toml", "threads = 3")
        (tmp_path / "b").mkdir()
        monkeypatch.chdir(tmp_path)
        assert merge(from_project(Path("a", "..", "b"))) == Settings(threads=2)
        monkeypatch.chdir(tmp_path / "a")
        assert merge(from_project(Path())) == Settings(threads=3)

    def test_spiders_are_globs_and_no_setting(self, tmp_path: Path) -> None:
        path = write(tmp_path / "scrapekit.toml", 'spiders = ["spiders/*.py"]\nthreads = 2')
        config = project_config(tmp_path)
        assert config is not None
        assert config.path == path.resolve()
        assert config.spiders == ("spiders/*.py",)
        assert config.settings.values == {"threads": 2}

    def test_without_spiders_there_are_no_globs(self, tmp_path: Path) -> None:
        write(tmp_path / "scrapekit.toml", "threads = 2")
        config = project_config(tmp_path)
        assert config is not None
        assert config.spiders == ()

    @pytest.mark.parametrize("globs", ['"*.py"', "[1]", "{}"])
    def test_spiders_of_another_type_are_refused(self, tmp_path: Path, globs: str) -> None:
        path = write(tmp_path / "scrapekit.toml", f"spiders = {globs}")
        with pytest.raises(SettingsError) as caught:
            project_config(tmp_path)
        assert str(caught.value).startswith(f"{path.resolve()}: spiders is ")
        assert str(caught.value).endswith("; expected a list of globs")

    def test_a_bad_value_is_told_with_its_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "scrapekit.toml", 'threads = "2"')
        with pytest.raises(SettingsError) as caught:
            merge(from_project(tmp_path))
        assert str(caught.value) == (
            f"{path.resolve()}: setting 'threads' is '2'; expected a whole number from 1 to 1000"
        )
        assert caught.value.source == str(path.resolve())

    def test_a_table_of_another_type_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path / "pyproject.toml", "[tool]\nscrapekit = 5")
        with pytest.raises(SettingsError, match=r"tool\.scrapekit is 5; expected a table$"):
            project_config(tmp_path)

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("threads = 2\nretries = = 3\n", 2),
            ("a = 1\na = 2\n", 2),
            ("a = 1\n\n[b", 3),
            ("a = 1\nb =", 2),
            ("a", 1),
            ("a = '''\n\n\n", 3),
        ],
    )
    @pytest.mark.parametrize("name", ["scrapekit.toml", "pyproject.toml"])
    def test_a_broken_file_is_told_with_its_line(
        self, tmp_path: Path, name: str, text: str, line: int
    ) -> None:
        path = write(tmp_path / name, text)
        with pytest.raises(SettingsError, match=rf"line {line}\b") as caught:
            project_config(tmp_path)
        assert str(caught.value).startswith(f"{path.resolve()}: not valid TOML: ")
        assert len(str(caught.value).splitlines()) == 1

    def test_a_file_that_is_not_utf8_is_told_with_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "scrapekit.toml").write_bytes(b"threads = 2\nuser_agent = '\xe4'\n")
        with pytest.raises(SettingsError, match=r"scrapekit\.toml: not UTF-8 \(at line 2\)$"):
            project_config(tmp_path)

    @pytest.mark.skipif(not UNREADABLE.is_file(), reason="needs a file that not even root can read")
    def test_a_file_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "scrapekit.toml").symlink_to(UNREADABLE)
        with pytest.raises(SettingsError, match=r"scrapekit\.toml: can't be read: \w+"):
            project_config(tmp_path)
