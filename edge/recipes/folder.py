"""The folder of recipes: versions that are there whole or not at all, and a link to one in force.

::

    FOLDER/NAME/versions/0001/   recipe.yaml, model.xml, model.bin, model.json, model.sig if signed,
                                 mask.yaml where parts of the image count differently, and
                                 mask.png where some of it is painted
    FOLDER/NAME/current          -> versions/0001
    FOLDER/NAME/images/          images that it was taught with

Several processes may write (a station, teaching, an import): who changes something holds the lock
of the recipe's ``versions`` for that moment. Readers need none. An import compares before it
changes something: it holds that of the whole folder, too, always the first of the two.
"""

import fcntl
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.atomic_files import create_new, not_writable
from edge.bundle.loading import load_bundle
from edge.recipes.content import MAX_VERSION, RECIPE_FILE, RecipeContent, read_recipe, recipe_yaml
from edge.recipes.errors import RecipeDamaged, RecipeError, RecipeNotInForce, RecipeUnknown
from edge.recipes.kept_images import images_to_remove
from edge.recipes.names import recipe_name
from edge.recipes.taught import Taught, read_taught
from edge.system.file_access import whose_beside_root
from edge.wording import counted

log = logging.getLogger(__name__)

MODEL = "model"
MASK_FILE = "mask.yaml"
MASK_IMAGE = Path(MASK_FILE).with_suffix(".png").name  # as ``mask_content`` calls it
VERSIONS, CURRENT, IMAGES = "versions", "current", "images"
_BUILDING = ".new-"
_VERSION = re.compile(r"[0-9]{4}")
_CONTENT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RecipeVersion:
    """A version as it lies in the folder.

    Attributes:
        content: of its ``recipe.yaml``.
        folder: with links resolved, so that it stays this version.
    """

    content: RecipeContent
    folder: Path

    @property
    def name(self) -> str:
        return self.content.name

    @property
    def version(self) -> int:
        return self.content.version

    @property
    def model(self) -> Path:
        """The ``.xml`` of its bundle; ``load_bundle`` checks it."""
        return self.folder / f"{MODEL}.xml"

    @property
    def mask(self) -> Path | None:
        """Areas that are not inspected, and zones, as ``decision.mask`` has them."""
        path = self.folder / MASK_FILE
        return path if path.is_file() else None

    def __str__(self) -> str:
        return f"recipe {self.name} version {self.version}"


@dataclass(frozen=True, slots=True)
class RecipeListing:
    """What is kept of a recipe.

    Attributes:
        versions: ascending; a text only of a model that the settings name.
        in_force: None where none is.
    """

    name: str
    versions: tuple[int | str, ...]
    in_force: int | str | None


class RecipeFolder:
    """All recipes of one or several stations; holds no state but its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Make the folder where it is not there yet.

        Raises:
            OutputNotWritable: the disk refused it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(self.path, error) from error

    def refuse_root(self) -> None:
        """Demand that a command of root writes into no other user's folder.

        The station could neither read what root leaves there nor add a version to it, and parts of
        that recipe would have no model.

        Raises:
            RecipeError: names the user to run it as.
        """
        if user := whose_beside_root(self.path):
            raise RecipeError(
                f"{self.path}: belongs to {user}, who could not change what root writes there, nor "
                f"always read it. Run the command as that user: runuser -u {user} -- …"
            )

    def listing(self) -> list[RecipeListing]:
        """Return the recipes that have a version, by name.

        Raises:
            RecipeUnknown: the folder cannot be read.
        """
        try:
            entries = sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RecipeUnknown(
                f"{self.path}: cannot be read ({error.strerror}). Check recipes.folder."
            ) from error
        found = []
        for name in entries:
            try:
                if recipe_name(name) != name:
                    continue
            except RecipeError:  # a hidden folder, or none of a recipe
                continue
            versions = self.versions(name)
            if versions:
                found.append(RecipeListing(name, versions, self.in_force(name)))
        return found

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions of a recipe, ascending; empty for an unknown one."""
        try:
            entries = [entry.name for entry in (self._path(name) / VERSIONS).iterdir()]
        except OSError:
            return ()
        return tuple(sorted(int(entry) for entry in entries if _VERSION.fullmatch(entry)))

    def in_force(self, name: str) -> int | None:
        """Return the version that the link names; None where there is no such link or folder."""
        try:
            target = str((self._path(name) / CURRENT).readlink())
        except OSError:
            return None
        folder, _, version = target.rpartition("/")
        if folder != VERSIONS or not _VERSION.fullmatch(version):
            return None
        return int(version) if (self._path(name) / target).is_dir() else None

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Import nothing else meanwhile: what was compared with a file stays as it was found.

        Raises:
            OSError: the folder is not there or not readable.
        """
        with _locked(self.path):
            yield

    def images(self, name: str) -> Path:
        """Return where a recipe's taught images lie; the folder need not be there yet."""
        return self._path(name) / IMAGES

    def missing_images(self, version: RecipeVersion, taught: Taught) -> list[str]:
        """Return contents that a version was taught with and that are no longer kept.

        Without them it inspects as before, and cannot be built again.
        """
        there = self._contents(version.name)
        return [content for content in taught.contents if content not in there]

    def version_images(self, version: RecipeVersion) -> list[Path]:
        """Return what a version was taught with, as far as it is kept.

        Of one that was not taught here, what lies there under names of its own.

        Raises:
            RecipeDamaged: what names its images cannot be read.
        """
        taught, there = read_taught(version.folder), self._contents(version.name)
        if taught is not None:
            return [path for content in taught.contents for path in there.get(content, ())]
        called_by_content = {path for paths in there.values() for path in paths}
        return sorted(set(self.images(version.name).rglob("*")) - called_by_content)

    def add_images(
        self, version: RecipeVersion, images: Mapping[str, Path], max_images: int | None = None
    ) -> None:
        """Bring images of a version that is there already; as ``publish`` does of a new one.

        Args:
            images: by the place in the folder of images.
            max_images: that the recipe keeps; those of other versions make room, but for the one in
                force. None removes none.

        Raises:
            OutputNotWritable: the disk refused it.
        """
        own = self.images(version.name)
        try:
            with (
                self._brought_images(version.name, images) as brought,
                _locked(self._path(version.name) / VERSIONS),
            ):
                if brought is not None:
                    _move_all(brought, own)
                if max_images is not None:
                    self._bound_images(version.name, version.version, max_images)
        except OSError as error:
            raise not_writable(own, error) from error

    def _contents(self, name: str) -> dict[str, list[Path]]:
        """Return the files of kept images by the content that they are called by."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.images(name).glob("*.*")):
            if _CONTENT.fullmatch(path.stem):
                found.setdefault(path.stem, []).append(path)
        return found

    @contextmanager
    def _brought_images(self, name: str, images: Mapping[str, Path]) -> Iterator[Path | None]:
        """Bring images into a hidden folder beside their places, as long as the block lasts.

        Those that are kept already are linked: another version's may make room meanwhile.
        """
        own = self.images(name)
        if images:
            own.mkdir(parents=True, exist_ok=True)
        elif not own.is_dir():  # else what a killed process left there goes
            yield None
            return
        with hidden_folder(own) as brought:
            for place, path in images.items():
                target = brought / place
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.hardlink_to(own / place)
                except OSError:  # not there, or a disk without links
                    _write_synced(target, path.read_bytes())
            yield brought

    def _bound_images(self, name: str, brought: int, max_images: int) -> None:
        """Remove images, so that those of a version have room; its caller has the lock.

        The version is there by now, so what cannot be removed is logged.
        """
        try:
            taught = {}
            for version in self.versions(name):
                order = read_taught(self._version_folder(name, version))
                if order is not None:
                    taught[version] = frozenset(order.contents)
            there = self._contents(name)
            removed = images_to_remove(
                taught,
                there,
                always={version for version in (brought, self.in_force(name)) if version in taught},
                max_images=max_images,
            )
            for content in removed:
                for path in there[content]:
                    path.unlink(missing_ok=True)
            if not removed:
                return
            _sync(self.images(name))
            dropped = [version for version, images in taught.items() if images & removed]
            log.warning(
                "recipe %s: %s of other versions were removed, because recipes.max_images "
                "is %d; no longer to be built again: version %s",
                name,
                counted(len(removed), "image"),
                max_images,
                ", ".join(map(str, dropped)) or "none",
            )
        except (OSError, RecipeError) as error:
            log.warning("recipe %s: images of other versions are not bounded: %s", name, error)

    def load(self, name: str, version: int | None = None) -> RecipeVersion:
        """Return a version; None takes the one in force.

        Raises:
            RecipeNameInvalid, RecipeUnknown, RecipeNotInForce: it is not there.
            RecipeDamaged: its ``recipe.yaml`` is of no use, or of another name or version.
        """
        name = recipe_name(name)
        kept = self.versions(name)
        if not kept:
            known = ", ".join(one.name for one in self.listing()) or "none"
            raise RecipeUnknown(f"recipe {name!r} is not in {self.path}; there: {known}.")
        if version is None:
            version = self.in_force(name)
            if version is None:
                raise RecipeNotInForce(
                    f"no version of recipe {name!r} is in force. Put one of "
                    f"{', '.join(map(str, kept))} in force."
                )
        if version not in kept:
            raise RecipeUnknown(
                f"recipe {name!r} has no version {version}; there: {', '.join(map(str, kept))}."
            )
        folder = self._version_folder(name, version).resolve()
        content = read_recipe(folder)
        if (content.name, content.version) != (name, version):
            raise RecipeDamaged(
                f"{folder / RECIPE_FILE}: is of recipe {content.name!r} version {content.version}. "
                "Publish the version again; files of versions are never edited."
            )
        return RecipeVersion(content, folder)

    def publish(
        self,
        content: RecipeContent,
        build: Callable[[Path], None],
        public_key: Path | None = None,
        *,
        images: Mapping[str, Path] | None = None,
        max_images: int | None = None,
        number: int | None = None,
    ) -> RecipeVersion:
        """Add a version: built in a hidden folder, checked, and given its name when it is whole.

        It is not in force yet; see ``put_in_force``.

        Args:
            content: its version is replaced by ``number``.
            build: writes ``model.xml``, ``.bin``, ``.json`` and, if signed, ``.sig`` into the
                folder it gets; what it raises ends the publication, and nothing is left of it.
            public_key: that must have signed the bundle.
            images: what it is taught with, by the place in the folder of images, ``taught_place``
                of those that are called by their content; they are there before it is.
            max_images: that the recipe keeps; images of older versions make room, those of the
                one in force do not. None removes none.
            number: of the version; None is the next free one.

        Raises:
            BundleError: what was built is no whole bundle.
            RecipeError: it holds links or folders, the recipe takes no further version, or has
                one of this number.
            OutputNotWritable: the disk refused it.
        """
        versions = self._path(content.name) / VERSIONS
        try:
            self._make_folders(versions)
            with (
                hidden_folder(versions) as building,
                self._brought_images(content.name, images or {}) as brought,
            ):
                build(building)
                load_bundle(building / f"{MODEL}.xml", public_key)
                with _locked(versions):
                    kept = self.versions(content.name)
                    if number in kept:
                        raise RecipeError(
                            f"recipe {content.name!r} has a version {number} already, which "
                            "is never written over."
                        )
                    number = number or max(kept, default=0) + 1
                    if number > MAX_VERSION:
                        raise RecipeError(
                            f"recipe {content.name!r} has {MAX_VERSION} versions, which "
                            "is the maximum. "
                            "Publish it under another name."
                        )
                    content = content.model_copy(update={"version": number})
                    _write_synced(building / RECIPE_FILE, recipe_yaml(content))
                    _sync_all(building)
                    folder = self._version_folder(content.name, number)
                    if brought is not None:
                        _move_all(brought, self.images(content.name))
                    building.chmod(0o755)
                    building.rename(folder)
                    _sync(versions)
                    if max_images is not None:
                        self._bound_images(content.name, number, max_images)
        except OSError as error:
            raise not_writable(versions, error) from error
        return RecipeVersion(content, folder.resolve())

    def put_in_force(self, name: str, version: int) -> RecipeVersion:
        """Make a version the one that is offered; at any moment the link leads to a whole one.

        Raises:
            RecipeUnknown, RecipeDamaged: there is no such version to put in force.
            OutputNotWritable: the disk refused it; the one before is in force still.
        """
        chosen = self.load(name, version)
        own = self._path(chosen.name)
        beside = own / f".{CURRENT}.new"
        try:
            with _locked(own / VERSIONS):
                beside.unlink(missing_ok=True)
                beside.symlink_to(f"{VERSIONS}/{version:04d}")
                beside.replace(own / CURRENT)
                _sync(own)
        except OSError as error:
            raise not_writable(own / CURRENT, error) from error
        return chosen

    def restore(self, name: str, version: int | None) -> None:
        """Put back what was in force before; None for nothing.

        Raises:
            OutputNotWritable: the disk refused it.
        """
        if version is not None:
            self.put_in_force(name, version)
            return
        own = self._path(name)
        try:
            with _locked(own / VERSIONS):
                (own / CURRENT).unlink(missing_ok=True)
                _sync(own)
        except OSError as error:
            raise not_writable(own / CURRENT, error) from error

    def roll_back(self, name: str) -> RecipeVersion:
        """Put the version before the one in force in force.

        Raises:
            RecipeNotInForce: none is in force, or there is none before it.
        """
        name = recipe_name(name)
        now = self.in_force(name)
        before = [one for one in self.versions(name) if now is not None and one < now]
        if not before:
            raise RecipeNotInForce(
                f"recipe {name!r}: there is no version before {now or 'the one in force'}. "
                "Put another one in force by its number."
            )
        return self.put_in_force(name, before[-1])

    def _path(self, name: str) -> Path:
        return self.path / recipe_name(name)

    def _version_folder(self, name: str, version: int) -> Path:
        return self._path(name) / VERSIONS / f"{version:04d}"

    def _make_folders(self, versions: Path) -> None:
        if versions.is_dir():
            return
        versions.mkdir(parents=True, exist_ok=True)
        for folder in (versions.parent, self.path):
            _sync(folder)


def taught_place(content: bytes, path: Path) -> str:
    """Return what a taught image is called in the folder of images.

    Args:
        content: SHA-256 of its pixels.
        path: of its file.
    """
    return f"{content.hex()}{path.suffix.lower()}"


def use_command(version: RecipeVersion) -> str:
    """Return the command that puts a version in force."""
    folder = version.folder.parents[2]
    return f"edge-run --recipe use '{version.name}@{version.version}' --recipes '{folder}'"


def bundle_copier(bundle: Path) -> Callable[[Path], None]:
    """Return what makes a version of a bundle that lies elsewhere, for ``publish``.

    Raises:
        BundleError: it is not whole.
    """
    path = load_bundle(bundle).path

    def build(folder: Path) -> None:
        for end in (".xml", ".bin", ".json", ".sig"):
            if path.with_suffix(end).exists():
                shutil.copyfile(path.with_suffix(end), folder / f"{MODEL}{end}")

    return build


@contextmanager
def hidden_folder(parent: Path) -> Iterator[Path]:
    """Make a hidden folder that is this process's until the end of the block; what is left goes.

    Those that a process left that was killed go, too.

    Raises:
        OSError: the parent is not there or not writable.
    """
    with ExitStack() as held:
        with _locked(parent):  # so that nobody takes the new one for an abandoned one
            _remove_abandoned(parent)
            folder = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=parent))
            held.enter_context(_locked(folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # renamed by now, where all went well


def _remove_abandoned(parent: Path) -> None:
    """Remove what a process left that ended while it built: nobody holds its lock."""
    for folder in parent.glob(f"{_BUILDING}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _move_all(source: Path, target: Path) -> None:
    """Move the files below a folder to the same places below another one; the disk has them."""
    folders = {target}
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
            folders |= {place, place.parent}
        else:
            path.replace(place)
    for folder in folders:
        _sync(folder)


def _write_synced(path: Path, content: bytes) -> None:
    with create_new(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_all(folder: Path) -> None:
    """Have the disk hold all files of a folder, and that they are in it."""
    for entry in folder.iterdir():
        if entry.is_symlink() or not entry.is_file():
            raise RecipeDamaged(
                f"{entry}: is not a regular file; a version contains only regular files."
            )
        _sync(entry)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
