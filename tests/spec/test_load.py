"""Reading a spec: values, files, and that nothing but SpecError ever comes of a text."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clusterctl.core.errors import UsageError
from clusterctl.spec.load import SpecError, load_located, load_spec, parse_located, parse_spec
from clusterctl.spec.model import ClusterSpec
from tests.spec.examples import FULL, SMALLEST

GIB = 1024**3


def spec_with(text: str) -> ClusterSpec:
    return parse_spec(SMALLEST + text)


def test_the_smallest_spec_has_one_pool_and_ray() -> None:
    spec = parse_spec(SMALLEST)
    assert (spec.cluster, spec.provider_name, spec.provider_settings) == ("demo", "local", {})
    assert spec.ray is not None
    (pool,) = spec.pools
    assert (pool.name, pool.min, pool.max, pool.resources) == ("cpu", 0, 3, {"CPU": 1})


def test_the_full_example_is_read_as_it_is_meant() -> None:
    spec = parse_spec(FULL)
    (pool,) = spec.pools
    assert spec.provider_name == "aws"
    assert spec.provider_settings == {"region": "us-east-1"}  # `vpc: default` is what it is anyway
    assert spec.head.disk == 100 * GIB
    assert spec.ray is not None and spec.ray.version == "2.60.0"
    assert (pool.idle_timeout, pool.orphan_timeout) == (300, 900)
    assert pool.market == ["spot", "on-demand"]
    assert (spec.files[0].source, spec.files[0].to) == ("./data", "/data")
    assert spec.limits.budget.per_day == 500


def test_numbers_and_booleans_are_taken_as_written_where_text_is_wanted() -> None:
    spec = spec_with(
        "env: {PORT: 8080, MODE: 0755, ON: yes, V: 1.10, B: true, E: ''}\nengine: {ray: {version: 2.60}}\n"
    )
    assert spec.env == {"PORT": "8080", "MODE": "0755", "ON": "yes", "V": "1.10", "B": "true", "E": ""}
    assert spec.ray is not None and spec.ray.version == "2.60"


@pytest.mark.parametrize(("written", "read"), [("010", 10), ("0o10", 8), ("0x10", 16), ("+7", 7)])
def test_numbers_are_those_of_yaml_1_2(written: str, read: int) -> None:
    assert parse_spec(f"cluster: a\nprovider: local\npools: [{{name: cpu, max: {written}}}]").pools[0].max == read


@pytest.mark.parametrize(("written", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("45", 45), ("0.5", 0.5)])
def test_durations_have_units_or_are_seconds(written: str, seconds: float) -> None:
    spec = parse_spec(f"cluster: a\nprovider: local\npools: [{{name: cpu, idle_timeout: {written}}}]")
    assert spec.pools[0].idle_timeout == seconds


def test_memory_is_a_size() -> None:
    spec = parse_spec(
        "cluster: a\nprovider: local\nengine: none\npools: [{name: cpu, resources: {CPU: 0.5, memory: 8GiB}}]"
    )
    assert spec.pools[0].resources == {"CPU": 0.5, "memory": 8 * GIB}


@pytest.mark.parametrize(
    ("written", "on"), [("none", False), ("ray", True), ("{ray: }", True), ("{}", True), ("{ray: {}}", True)]
)
def test_the_engine_has_short_forms(written: str, on: bool) -> None:
    assert (spec_with(f"engine: {written}\n").ray is not None) == on


@pytest.mark.parametrize("written", ["docker", "{docker: }", "{docker: {}}", "\n  docker:"])
def test_a_provider_may_stand_without_settings(written: str) -> None:
    spec = parse_spec(f"cluster: a\nprovider: {written}\npools: [{{name: cpu}}]")
    assert (spec.provider_name, spec.provider_settings) == ("docker", {})


def test_a_setting_that_the_fake_cloud_does_not_have_is_refused_and_its_script_is_kept_as_written() -> None:
    written = "cluster: a\nprovider: {fake: {%s, faults: [{kind: lost_boot, from: 3}]}}\npools: [{name: cpu}]"
    spec = parse_spec(written % "boot_seconds: 2")
    assert spec.provider_settings == {"boot_seconds": 2, "faults": [{"kind": "lost_boot", "from": 3}]}
    with pytest.raises(SpecError, match=r"2:19: unknown key 'boot_second' .*'boot_seconds'"):
        parse_spec(written % "boot_second: 2")


def test_merge_keys_say_a_thing_once() -> None:
    pools = "[&gpu {name: small, max: 4, gpu: {name: L4}}, {<<: *gpu, name: big, max: 2}]"
    small, big = parse_spec(f"cluster: a\nprovider: fake\npools: {pools}\n").pools
    assert (small.max, big.name, big.max, big.gpu) == (4, "big", 2, small.gpu)


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault() -> None:
    assert parse_spec("\ufeff" + SMALLEST.replace("\n", "\r\n")) == parse_spec(SMALLEST)


def test_places_are_those_of_the_text() -> None:
    _, document = parse_located(FULL)
    assert document.place(("pools", 0, "idle_timeout"), at_key=True) == (13, 5)
    assert document.place(("pools", 0, "idle_timeout")) == (13, 19)
    assert document.place(("pools", 0, "disk")) == (7, 5)  # not there: its pool
    assert document.place(("queue", "preemption"), at_key=True) == (20, 27)


# ---------------------------------------------------------------- files


def test_a_file_is_named_in_every_line_as_the_user_named_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.yaml").write_text("cluster: a\nprovider: locl\npools: [{nam: x}]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        load_spec(Path("my.yaml"))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["my.yaml:2:11", "my.yaml:3:10"]
    assert isinstance(caught.value, UsageError) and caught.value.exit_code == 2


def test_a_file_is_loaded_with_the_places_in_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(FULL)
    spec, document = load_located(path)
    assert spec == parse_spec(FULL) and document.name == str(path)


def refused(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    return str(caught.value).replace(str(path.parent), "DIR")


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(SMALLEST)
    assert refused(tmp_path / "clutser.yaml") == "DIR/clutser.yaml: no such file (did you mean 'cluster.yaml'?)"
    assert "clusterctl init" in refused(tmp_path / "none" / "cluster.yaml")


def test_a_directory_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "cluster.yaml").write_text(SMALLEST)
    assert refused(tmp_path / "d") == "DIR/d: is a directory; a spec is a file (did you mean 'DIR/d/cluster.yaml'?)"


def test_a_file_in_another_encoding_is_refused_at_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes("cluster: a\nenv: {A: é}\n".encode("latin-1"))
    assert refused(path) == "DIR/c.yaml:2:10: byte 0xe9 is not UTF-8 (save the file as UTF-8)"
    path.write_bytes(SMALLEST.encode("utf-16"))
    assert "not UTF-16" in refused(path)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with path.open("wb") as file:
        file.truncate(5 * 1024**3)  # sparse: reading it whole would be noticed
    assert refused(path) == "DIR/c.yaml: is larger than 1,048,576 bytes, the limit for a spec"


def test_a_text_too_large_is_refused() -> None:
    with pytest.raises(SpecError, match="the limit is 1,048,576"):
        parse_spec(SMALLEST + "#" * 1024 * 1024)


def test_a_text_with_faults_without_end_is_answered_with_the_first_of_them() -> None:
    """Also where each kind of fault is found by another part."""
    unknown = "".join(f"key{i}: {i}\n" for i in range(5_000))
    twice = "env: {}\n" * 5_000
    empty = "env:\n" + "".join(f"  A{i}:\n" for i in range(5_000))
    for text in (unknown, twice, empty):
        with pytest.raises(SpecError) as caught:
            parse_spec(SMALLEST + text)
        assert len(caught.value.faults) == 101
        assert caught.value.faults[-1].message == "and more faults from here on"


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(SpecError, match=r"cannot be read"):
        load_spec(Path("a\0b.yaml"))


# ---------------------------------------------------------------- properties

WORDS = """
cluster provider pools name min max resources CPU GPU memory local aws region head env limits engine ray none spot 5m 8GiB
true null ~ 010 -1 1e400 .nan .inf 0x 99999999999999999999999999 yes *a &a <<: !!str '' "a" | > % @ [ ] { } : - , #
"""
words = st.sampled_from([*WORDS.split(), "", "\t"])
pieces = st.lists(words | st.just("\n") | st.just("\n  ") | st.just(": ") | st.just("- "), max_size=60).map(" ".join)
keys = st.sampled_from(
    [*ClusterSpec.model_fields, "name", "min", "max", "gpu", "zones", "ray", "aws", "from"]
) | st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(text=st.text() | pieces)
@example(text="? [a]\n: b")
@example(text="a: &x [*x]")
@example(text="\ud800")
@example(text="<<: {a: b}")
@example(text="cluster: " + "9" * 5000)
@example(text="cluster: a\nprovider: local\npools: [{name: a, max: " + "9" * 40 + "}]")
@example(
    text="cluster: a\nprovider: local\npools: [{name: a, resources: {CPU: "
    + "9" * 39
    + ", memory: "
    + "9" * 30
    + "PiB}}]"
)
@example(
    text="cluster: a\nprovider: local\npools: [{name: a, idle_timeout: " + "9" * 400 + "s, disk: " + "9" * 400 + "GiB}]"
)
def test_any_text_is_a_spec_or_a_spec_error(text: str) -> None:
    check_spec_or_error(text)


@settings(max_examples=150)
@given(data=st.dictionaries(keys, values, max_size=6))
def test_any_yaml_is_a_spec_or_a_spec_error(data: dict[str, object]) -> None:
    check_spec_or_error(yaml.safe_dump(data, allow_unicode=True))


@settings(max_examples=100)
@given(st.data())
def test_a_spec_with_one_part_replaced_by_anything_is_a_spec_or_a_spec_error(data: st.DataObject) -> None:
    tree = yaml.safe_load(FULL)
    target = data.draw(st.sampled_from([tree, tree["pools"][0], tree["head"], tree["limits"], tree["engine"]["ray"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(values)
    check_spec_or_error(yaml.safe_dump(tree))


def check_spec_or_error(text: str) -> None:
    try:
        spec = parse_spec(text, "f")
    except SpecError as error:
        assert error.faults
        lines = text.splitlines() or [""]
        for fault in error.faults:
            assert fault.file == "f" and fault.message
            assert 0 <= fault.line <= len(lines) + 1 and (fault.column >= 1 or fault.line == 0)
            assert "\n" not in str(fault)
    else:
        assert ClusterSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec


def test_types_of_the_fake_cloud_are_amounts_sizes_and_prices() -> None:
    text = "cluster: demo\nprovider:\n  fake:\n    types: {big: %s}\npools: [{name: cpu, max: 2, instances: [big]}]\n"
    types = parse_spec(text % '{CPU: 2, memory: "8 GiB", price: 1, gpu_type: L4}').provider_settings["types"]
    assert types == {"big": {"CPU": 2, "memory": 8 * GIB, "price": 1, "gpu_type": "L4"}}
    with pytest.raises(SpecError) as refused:
        parse_spec(text % '{CPU: lots, cpus: 2, price: "0.1", spot_price: -1}')
    said = str(refused.value)
    for part in (":4:24: the amount of 'CPU'", "did you mean 'CPU'?", "'price' is in $/h", "'spot_price' is in $/h"):
        assert part in said, said
