"""Images are listed and removed with what they consist of, whatever came in between."""

from __future__ import annotations

import pytest
from clusterctl_providers.cloud.image_store import PATIENCE, ImageStore, Made, StillInUse

from tests.any_cloud.clock import Clock


class Shelf:
    def __init__(self, images: list[Made], pieces: list[Made], in_use: int = 0) -> None:
        self._images, self._pieces, self.in_use = images, pieces, in_use
        self.dropped: list[str] = []

    def images(self) -> list[Made]:
        return [one for one in self._images if one.id not in self.dropped]

    def pieces(self) -> list[Made]:
        return [one for one in self._pieces if one.id not in self.dropped]

    def drop_image(self, image: str) -> None:
        self.dropped.append(image)

    def drop_piece(self, piece: str) -> None:
        if self.in_use:
            self.in_use -= 1
            raise StillInUse(f"{piece} is in use")
        self.dropped.append(piece)


OLD = Made("img-1", "c1", "old", "available", "x86_64", 100.0)
WHOLE = Made("img-2", "c2", "whole", "available", "arm64", 200.0, 7)
PIECES = [Made("s-2", "c1", "old", created=90.0, size=3), Made("s-1", "c1", "old", created=95.0, size=2)]


def test_the_oldest_comes_first_with_the_size_of_all_that_it_consists_of() -> None:
    first, second = ImageStore(Shelf([WHOLE, OLD], PIECES)).list()
    assert (first.id, first.size, first.snapshots, first.created) == ("img-1", 5, ("s-1", "s-2"), 100.0)
    assert (second.id, second.size, second.snapshots) == ("img-2", 7, ()), "an image of one piece is its own size"


def test_a_removal_that_was_interrupted_is_an_entry_without_an_id_and_is_finished() -> None:
    shelf = Shelf([], PIECES)
    store = ImageStore(shelf)
    (left,) = store.list()
    assert (left.id, left.name, left.state, left.created) == ("", "old", "gone", 90.0)
    store.remove(left)
    assert shelf.dropped == ["s-1", "s-2"] and store.list() == []


def test_the_image_goes_before_its_pieces() -> None:
    shelf = Shelf([OLD], PIECES)
    store = ImageStore(shelf)
    store.remove(store.list()[0])
    assert shelf.dropped == ["img-1", "s-1", "s-2"]


@pytest.mark.parametrize(("in_use", "gone"), [(5, True), (1000, False)])
def test_a_piece_that_is_still_in_use_is_waited_for_a_minute(in_use: int, gone: bool) -> None:
    clock, shelf = Clock(), Shelf([], PIECES[:1], in_use)
    store = ImageStore(shelf, clock, clock.pause)
    if gone:
        store.remove(store.list()[0])
        assert shelf.dropped == ["s-2"]
        return
    with pytest.raises(StillInUse):
        store.remove(store.list()[0])
    assert sum(clock.pauses) == PATIENCE
