"""Takes the place of the file by which transformers' tests find pictures and videos that were fetched before."""

from pathlib import Path

ROOT = Path(__file__).parents[3]
PLACES = {
    ".mp4": ROOT / "tests" / "fixtures" / "media" / "shapes.mp4",
    ".png": ROOT / "docs" / "images" / "hero.png",
    ".jpg": ROOT / "docs" / "images" / "hero.png",
}


def url_to_local_path(url: str, return_url_if_not_found: bool = True) -> str:
    """A local picture or video in place of the one at ``url``; sounds stay where they are."""
    return str(PLACES.get(Path(url).suffix, url))
