import dataclasses
import json
from collections import Counter

import pytest

from degrade.adjustment import Adjustment
from degrade.errors import failure_reason
from degrade.files.sources import Source, list_sources
from degrade.images.codec import encode_image
from degrade.images.geometry import crop_positions, shrunk_size
from degrade.synth.catalog import Catalog
from degrade.synth.plan import PlannedSource, pairs_of_shards, plan_units
from degrade.synth.settings import SynthSettings, crop_seed, pair_seed, shard_size_for


def planned(*crops, part=0):
    return [PlannedSource(f"{part}-{i}.png", 1, 64, 64, count, part) for i, count in enumerate(crops)]


def parts_of(images, settings):
    """The number of pairs in each part."""
    counts = Counter()
    for image in images:
        counts[image.part] += image.crops * settings.variants
    return [counts[part] for part in sorted(counts)]


def slots(images, settings, **options):
    """(shard, image, key, crop, variant) of every pair."""
    parts = parts_of(images, settings)
    units = plan_units([(image, Source(image.name, 1, image.name)) for image in images], parts, settings, **options)
    return [(unit.shard, images.index(unit.planned), *slot) for unit in units for slot in unit.slots]


def plan_sources(sources, settings):
    """What the plan takes, in its order, and what it leaves out."""
    with Catalog(sources) as catalog:
        catalog.plan_new(settings)
        return [image for image, _ in catalog.images()], list(catalog.left_out())


def test_every_crop_and_variant_has_one_growing_key():
    found = slots(planned(3, 1, 5), SynthSettings(variants=2, shard_size=4))
    assert [key for _, _, key, _, _ in found] == list(range(18))
    assert {(image, crop, variant) for _, image, _, crop, variant in found} == {
        (image, crop, variant) for image, crops in enumerate((3, 1, 5)) for crop in range(crops) for variant in range(2)
    }


@pytest.mark.parametrize("shard_size", [1, 4, 7, 18, 100])
def test_all_shards_but_the_last_are_full(shard_size):
    shards = [shard for shard, *_ in slots(planned(3, 1, 5), SynthSettings(variants=2, shard_size=shard_size))]
    assert shards == [slot // shard_size for slot in range(18)]


def test_the_size_of_a_piece_of_work_does_not_change_the_plan():
    images, settings = planned(3, 1, 50), SynthSettings(variants=2, shard_size=7)
    assert slots(images, settings, max_pairs=1) == slots(images, settings, max_pairs=5) == slots(images, settings)
    pairs = [(image, Source(image.name, 1, image.name)) for image in images]
    assert all(len(unit.slots) <= 5 for unit in plan_units(pairs, parts_of(images, settings), settings, max_pairs=5))


@pytest.mark.parametrize("variants", [1, 3])
@pytest.mark.parametrize("shard_size", [1, 4, 7, 100])
def test_the_units_of_some_shards_are_those_of_the_whole_plan(variants, shard_size):
    images, settings = (
        planned(3, 1, 50) + planned(9, 2, part=1),
        SynthSettings(variants=variants, shard_size=shard_size),
    )
    whole = slots(images, settings)
    sizes = pairs_of_shards([54 * variants, 11 * variants], settings)
    assert [sum(shard == i for shard, *_ in whole) for i in range(len(sizes))] == sizes
    for wanted in ({0}, {1, 3}, set()):
        assert slots(images, settings, wanted=wanted) == [slot for slot in whole if slot[0] in wanted]


@pytest.mark.parametrize("pairs", [*range(1, 40), 100, 799, 800, 801, 1234])
def test_a_small_data_set_is_divided_among_eight_workers(pairs):
    settings = SynthSettings(min_shards=8, shard_size=100)
    sizes = pairs_of_shards([pairs], settings)
    assert len(sizes) >= min(8, pairs) and sum(sizes) == pairs and max(sizes) <= 100
    found = slots(planned(*[1] * pairs), settings)
    assert [key for _, _, key, _, _ in found] == list(range(pairs))
    assert Counter(shard for shard, *_ in found) == dict(enumerate(sizes))


def test_every_part_of_a_data_set_is_divided_by_its_own_size():
    settings = SynthSettings(min_shards=8)
    assert pairs_of_shards([16, 3, 80], settings) == [2] * 8 + [1] * 3 + [10] * 8
    found = slots(planned(16) + planned(3, part=1) + planned(80, part=2), settings)
    assert [shard for shard, *_ in found][14:20] == [7, 7, 8, 9, 10, 11]


def test_an_extension_begins_a_new_shard_and_leaves_the_old_plan_alone():
    settings = SynthSettings(shard_size=4)
    old, new = planned(3, 3), planned(2, part=1)
    assert slots(old + new, settings)[:6] == slots(old, settings)
    assert [shard for shard, *_ in slots(old + new, settings)] == [0, 0, 0, 0, 1, 1, 2, 2]


def test_an_extension_after_a_full_shard_leaves_no_gap():
    settings = SynthSettings(shard_size=3)
    assert [shard for shard, *_ in slots(planned(3) + planned(1, part=1), settings)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"name": "b.png"}, {"crop": (1, 0, 64, 64)}, {"variant": 1}, {"degradation_hash": "g"}]
)
def test_the_seed_of_a_pair_depends_on_all_that_it_is(change):
    what = {"degradation_hash": "f", "seed": 0, "name": "a.png", "crop": (0, 0, 64, 64), "variant": 0}
    assert pair_seed(**what | change) != pair_seed(**what)


def test_the_seed_of_a_pair_never_changes_between_versions():
    assert pair_seed("f", 0, "ä b.png", (2, 0, 64, 64), 3) == 4075146959362300112
    assert 0 <= pair_seed("f", 0, "a.png", (0, 0, 64, 64), 0) < 2**62


def changed(name):
    """The default settings with another value of one of them."""
    value = getattr(SynthSettings(), name)
    other = {"recipe": {"steps": []}, "scale": 2, "crop_size": 128, "alpha": "refuse"}.get(name)
    other = Adjustment(grain=0.5) if name == "adjustment" else other
    other = other or (not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1)
    return dataclasses.replace(SynthSettings(), **{name: other})


def test_every_setting_counts_for_the_hash():
    for field in dataclasses.fields(SynthSettings):
        assert changed(field.name).hash() != SynthSettings().hash(), field.name


def test_the_seed_of_a_pair_depends_on_its_degradation_alone_not_on_how_pairs_are_chosen_packed_or_encoded():
    before = SynthSettings().degradation_hash()
    names = {field.name for field in dataclasses.fields(SynthSettings)}
    deciding = {name for name in names if changed(name).degradation_hash() != before}
    assert deciding == {"scale", "degrader_sha256", "recipe", "mix", "steps", "codes_sha256"}


def test_a_crop_that_scale_does_not_divide_is_refused_with_its_neighbours():
    with pytest.raises(ValueError, match="crop size 250 is not a multiple of scale 4; use 248 or 252"):
        SynthSettings(crop_size=250)
    assert SynthSettings(crop_size=0).crop_size == 0


@pytest.mark.parametrize("per_image", [0, 1, 5, 200])
def test_as_many_crops_are_planned_as_will_be_cut(photo_folder, per_image):
    settings = SynthSettings(crop_size=256, crops_per_image=per_image)
    tight = SynthSettings(crop_size=296, crops_per_image=per_image)  # chelsea is 451x300: 5 rows of positions
    for options in (settings, tight):
        for source in plan_sources(list_sources(photo_folder), options)[0]:
            seed = crop_seed(options, source.name)
            corners = crop_positions(source.height, source.width, options.crop_size, per_image or None, seed)
            assert source.crops == len(corners)


def test_the_order_depends_on_names_and_seed_only(photo_folder, tmp_path):
    listed = list_sources(photo_folder)
    names = [source.name for source in plan_sources(listed, SynthSettings(crop_size=64))[0]]
    assert [source.name for source in plan_sources(listed[::-1], SynthSettings(crop_size=64))[0]] == names
    moved = photo_folder.rename(tmp_path / "elsewhere")
    assert [source.name for source in plan_sources(list_sources(moved), SynthSettings(crop_size=64))[0]] == names
    listed = list_sources(moved)
    orders = {tuple(source.name for source in plan_sources(listed, SynthSettings(seed=n))[0]) for n in range(20)}
    assert len(orders) > 1


def test_images_that_do_not_fit_are_left_out_with_the_option_that_decides(photo_folder):
    def reasons(**settings):
        left_out = plan_sources(list_sources(photo_folder), SynthSettings(**settings))[1]
        return {entry["source"]: entry["reason"] for entry in left_out}

    assert set(reasons(crop_size=400)) == {"chelsea.png"}  # 451x300; coffee is 600x400
    assert "--crop-size" in reasons(crop_size=400)["chelsea.png"]
    assert "--min-side" in reasons(crop_size=0, min_side=301)["chelsea.png"]
    assert "--max-pixels" in reasons(max_pixels=200_000)["coffee.png"]
    assert set(reasons(crop_size=256, max_hr_side=500)) == {"coffee.png"}  # 300x200 after one halving


def test_reduction_halves_until_it_fits():
    assert shrunk_size((4001, 301), 1000) == (1000, 75)
    assert shrunk_size((4001, 301), 0) == (4001, 301)


def test_a_shard_size_for_a_bound_on_bytes_is_never_above_the_given_one():
    settings = SynthSettings(crop_size=256, shard_size=1000)
    few, many = shard_size_for(10, settings), shard_size_for(1e5, settings)
    assert 30 < few < 50 and many == 1000
    with pytest.raises(ValueError, match="too small for a pair"):
        shard_size_for(0.1, settings)
    with pytest.raises(ValueError, match="crops of one size"):
        shard_size_for(10, SynthSettings(crop_size=0))


def test_a_reason_names_no_place_on_the_disk(tmp_path):
    image = tmp_path / "x.png"
    image.symlink_to(tmp_path / "nothing")
    left_out = plan_sources(list_sources(tmp_path), SynthSettings())[1]
    assert left_out == [{"source": "x.png", "reason": "is a broken link"}]
    assert failure_reason(ValueError("why")) == "why"


def test_a_plan_survives_json(photographs, tmp_path):
    (tmp_path / "ä b.png").write_bytes(encode_image(photographs["chelsea"], "png"))
    source = plan_sources(list_sources(tmp_path), SynthSettings())[0][0]
    assert PlannedSource(**json.loads(json.dumps(dataclasses.asdict(source)))) == source
