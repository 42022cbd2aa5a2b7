"""The images of a session: numbered, each content once, as many as are allowed."""

from edge.contract.verdict import pixels_sha256
from edge.hmi.contents import CapturedImage
from edge.hmi.station_end.teaching.folder import TeachingFolder
from edge.hmi.station_end.teaching.session import NotTaken, TeachingSession
from edge.imaging.content_hash import pixels_hash
from edge.imaging.frame import Pixels
from edge.wording import counted


class SessionImages:
    """Keeps images in the folder; their numbers go on from one session to the next.

    Attributes:
        most: images that a session may have.
    """

    def __init__(self, folder: TeachingFolder, most: int) -> None:
        self.most = most
        self._folder = folder
        self._last_number = 0

    def keep(self, pixels: Pixels) -> int:
        """Write an image; return its number.

        Raises:
            OutputNotWritable: the disk refused it.
        """
        number = self._last_number + 1
        self._folder.keep(number, pixels)
        self._last_number = number
        return number

    def add(
        self,
        session: TeachingSession,
        pixels: Pixels,
        kind: str,
        *,
        seq: int | None = None,
        confirmed: bool = False,
        sha256: str | None = None,
    ) -> None:
        """Take an image into a session, unless it is known or there are enough.

        Args:
            sha256: of what was inspected; None of an image without loss, which is that.

        Raises:
            OutputNotWritable: the disk refused it.
        """
        if session.known(pixels, sha256) is not None:
            return
        if len(session.images) >= self.most:
            session.not_taken += 1
            session.why_not = self.enough()
            return
        number = self.keep(pixels)
        session.contents[pixels_hash(pixels)] = number
        session.inspected_as[sha256 or pixels_sha256(pixels)] = number
        session.size = session.size or pixels.shape
        session.images.append(
            CapturedImage.model_validate(
                {
                    "number": number,
                    "kind": kind,
                    "confirmed": confirmed,
                    "seq": seq,
                    "struck": False,
                }
            )
        )

    def enough(self) -> NotTaken:
        return NotTaken("enough", self.no_more(), {"most": self.most})

    def no_more(self) -> str:
        return (
            f"{counted(self.most, 'image is', 'images are')} captured, the limit set by "
            "recipes.max_images. Exclude some and build, or raise the limit."
        )
