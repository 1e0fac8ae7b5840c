"""Flowers-102 as its archives unpack."""

from __future__ import annotations

import json
from pathlib import Path

from fgvr.errors import UserError
from fgvr.sources.base import SourceGone, clean
from fgvr.sources.benchmark import Benchmark, Listing
from fgvr.sources.mat_file import read_mat
from fgvr.sources.protocols import Photo

# The archive has numbers alone; these are the names of the benchmark's own page, in its order and spelling.
NAMES = tuple(
    """pink primrose|hard-leaved pocket orchid|canterbury bells|sweet pea|english marigold|tiger lily|moon orchid|
bird of paradise|monkshood|globe thistle|snapdragon|colt's foot|king protea|spear thistle|yellow iris|globe flower|
purple coneflower|peruvian lily|balloon flower|giant white arum lily|fire lily|pincushion flower|fritillary|red ginger|
grape hyacinth|corn poppy|prince of wales feathers|stemless gentian|artichoke|sweet william|carnation|garden phlox|
love in the mist|mexican aster|alpine sea holly|ruby-lipped cattleya|cape flower|great masterwort|siam tulip|
lenten rose|barbeton daisy|daffodil|sword lily|poinsettia|bolero deep blue|wallflower|marigold|buttercup|oxeye daisy|
common dandelion|petunia|wild pansy|primula|sunflower|pelargonium|bishop of llandaff|gaura|geranium|orange dahlia|
pink and yellow dahlia|cautleya spicata|japanese anemone|black-eyed susan|silverbush|californian poppy|osteospermum|
spring crocus|bearded iris|windflower|tree poppy|gazania|azalea|water lily|rose|thorn apple|morning glory|
passion flower|lotus|toad lily|anthurium|frangipani|clematis|hibiscus|columbine|desert-rose|tree mallow|magnolia|
cyclamen|watercress|canna lily|hippeastrum|bee balm|air plant|foxglove|bougainvillea|camellia|mallow|mexican petunia|
bromelia|blanket flower|trumpet creeper|blackberry lily""".replace("\n", "").split("|")
)
SYNONYMS = {  # as the lists that go round spell them
    "barbeton daisy": ("barberton daisy",),
    "pink and yellow dahlia": ("pink-yellow dahlia",),
    "air plant": ("ball moss",),
}
SPLITS_OF = (("trnid", "train"), ("valid", "val"), ("tstid", "test"))


class Flowers102(Benchmark):
    """Flowers-102: the folder that holds jpg/, imagelabels.mat and setid.mat.

    The names of the classes are built in; a cat_to_name.json in the folder comes before them. The split is the official
    one, of 10 photos of each class for training, 10 for validation and the rest for testing.
    """

    KIND, NAME, ROOT = "Flowers102", "flowers", "flower"

    def listing(self) -> Listing:
        labels = self._numbers("imagelabels.mat", "labels")
        splits: dict[int, str] = {}
        for name, split in SPLITS_OF:
            splits |= dict.fromkeys(self._numbers("setid.mat", name), split)
        names = self._names()
        paths = {str(number): (name,) for number, name in sorted(names.items())}
        photos = [
            Photo(f"jpg/image_{number:05d}.jpg", str(label), splits.get(number))
            for number, label in enumerate(labels, 1)
        ]
        known = set(names.values())
        return Listing(paths, photos, ("species",), {name: more for name, more in SYNONYMS.items() if name in known})

    def _names(self) -> dict[int, str]:
        file = self.root / "cat_to_name.json"
        if not file.is_file():
            return dict(enumerate(NAMES, 1))
        try:
            return {int(number): clean(str(name)) for number, name in json.loads(file.read_text("utf-8")).items()}
        except (ValueError, RecursionError, AttributeError) as error:
            raise UserError(f"{file} must be JSON with a name for each number, but it is not: {error}") from error

    def _numbers(self, name: str, variable: str) -> list[int]:
        file: Path = self.root / name
        if not file.is_file():
            raise SourceGone(f"the benchmark must have its list {name}, but {file} is not a file: download it too")
        held = read_mat(file).get(variable)
        if not isinstance(held, list) or not all(isinstance(one, int | float) and one == one // 1 for one in held):
            raise UserError(f"{file} must hold {variable}, whole numbers, but it does not: download it again")
        return [int(one) for one in held]
