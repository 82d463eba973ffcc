"""What a URL tells by its letters: a page of a service, a place that nobody else reaches, its own end."""

from datetime import UTC, datetime

import pytest

from sync_mcp.api.links import expiry, link_fault, page_behind

PAGES = [
    ("https://drive.google.com/file/d/1AbC/view?usp=sharing", "Google Drive"),
    ("https://drive.google.com/open?id=1AbC", "Google Drive"),
    ("https://drive.google.com/drive/folders/1AbC", "Google Drive"),
    ("https://docs.google.com/file/d/1AbC/edit", "Google Drive"),
    ("https://photos.app.goo.gl/AbC", "Google Photos"),
    ("https://www.dropbox.com/s/abc/talk.mp4?dl=0", "Dropbox"),
    ("https://www.dropbox.com/scl/fi/abc/talk.mp4?rlkey=k&dl=0", "Dropbox"),
    ("https://dropbox.com/s/abc/talk.mp4", "Dropbox"),
    ("https://www.youtube.com/watch?v=abc", "YouTube"),
    ("https://youtu.be/abc", "YouTube"),
    ("https://m.youtube.com/shorts/abc", "YouTube"),
    ("HTTPS://WWW.YouTube.com./watch?v=abc", "YouTube"),
    ("youtube.com/watch?v=abc", "YouTube"),
    ("https://onedrive.live.com/?id=root&cid=abc", "OneDrive"),
    ("https://1drv.ms/v/s!abc", "OneDrive"),
    ("https://contoso-my.sharepoint.com/:v:/g/personal/me/abc", "OneDrive or SharePoint"),
    ("https://wetransfer.com/downloads/abc/def", "WeTransfer"),
    ("https://we.tl/t-abc", "WeTransfer"),
    ("https://www.icloud.com/iclouddrive/0abc#talk", "iCloud"),
    ("https://share.icloud.com/photos/0abc", "iCloud"),
    ("https://vimeo.com/12345", "Vimeo"),
    ("https://player.vimeo.com/video/12345", "Vimeo"),
    ("https://www.tiktok.com/@me/video/12345", "TikTok"),
    ("https://vm.tiktok.com/abc/", "TikTok"),
    ("https://www.instagram.com/reel/abc/", "Instagram"),
    ("https://www.instagram.com/p/abc/?img_index=1", "Instagram"),
    ("https://fb.watch/abc/", "Facebook"),
    ("https://x.com/me/status/12345", "X"),
    ("https://www.loom.com/share/abc", "Loom"),
    ("https://app.box.com/s/abc", "Box"),
    ("https://mega.nz/file/abc", "MEGA"),
]
FILES = [
    "https://drive.google.com/uc?export=download&id=1AbC",
    "https://drive.usercontent.google.com/download?id=1AbC&export=download",
    "https://www.dropbox.com/s/abc/talk.mp4?dl=1",
    "https://www.dropbox.com/scl/fi/abc/talk.mp4?rlkey=k&raw=1",
    "https://dl.dropboxusercontent.com/s/abc/talk.mp4",
    "https://dl.dropbox.com/s/abc/talk.mp4",
    "https://onedrive.live.com/download?cid=abc",
    "https://contoso-my.sharepoint.com/:v:/g/personal/me/abc?download=1",
    "https://contoso.sharepoint.com/sites/a/_layouts/15/download.aspx?share=abc",
    "https://player.vimeo.com/external/12345.hd.mp4?s=abc",
    "https://player.vimeo.com/progressive_redirect/playback/12345/rendition/720p/file.mp4",
    "https://v16-webapp.tiktok.com/abc/video/tos/talk/",
    "https://cvws.icloud-content.com/B/abc/talk.mp4",
    "https://app.box.com/shared/static/abc.mp4",
    "https://notyoutube.com/watch?v=abc",
    "https://youtube.com.example.com/talk.mp4",
    "https://example.com/youtube.com/talk.mp4",
    "https://storage.googleapis.com/b/talk.mp4",
    "https://[::1/talk.mp4",
    "clip.mp4",
    "",
]
BASE = "http://127.0.0.1:8080"


@pytest.mark.parametrize(("url", "service"), PAGES)
def test_a_page_of_a_known_service_is_told_from_a_file(url: str, service: str) -> None:
    assert page_behind(url) == service
    fault = link_fault(url, "input[0].url", base_url=BASE)
    assert fault is not None
    assert fault.startswith(f"input[0].url is a page of {service}, not a file: download it and give path, or")


@pytest.mark.parametrize("url", FILES)
def test_a_direct_link_is_no_page_whoever_serves_it(url: str) -> None:
    assert page_behind(url) is None
    assert link_fault(url, "url", base_url=BASE) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/v.mp4",
        "https://localhost:8443/v.mp4",
        "http://127.0.0.1:8081/v.mp4",
        "https://127.1/v.mp4",
        "https://2130706433/v.mp4",
        "https://[::1]/v.mp4",
        "http://192.168.1.20/v.mp4",
        "http://10.0.0.1/v.mp4",
        "http://169.254.169.254/latest",
        "https://nas.local/v.mp4",
        "https://files.corp./v.mp4",
        "http://host.docker.internal:9000/v.mp4",
        "https://[fd00::1]/v.mp4",
    ],
)
def test_a_place_on_this_machine_or_in_its_network_is_refused(url: str) -> None:
    fault = link_fault(url, "url", base_url=BASE)
    assert fault is not None
    assert fault.startswith("url leads to this machine or a private network")


@pytest.mark.parametrize(
    "url",
    [
        f"{BASE}/samples/speaker.mp4",
        "https://example.com/v.mp4",
        "https://bücher.example/v.mp4",
        "https://8.8.8.8/v.mp4",
        "https://localhost.example.com/v.mp4",
        "https://h/v.mp4",
    ],
)
def test_the_apis_own_place_and_public_ones_are_taken(url: str) -> None:
    assert link_fault(url, "url", base_url=BASE) is None


@pytest.mark.parametrize(
    ("query", "until"),
    [
        ("X-Amz-Date=20261124T000000Z&X-Amz-Expires=900", datetime(2026, 11, 24, 0, 15, tzinfo=UTC)),
        ("Expires=1700000000&Signature=s", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("sv=2024-11-04&se=2026-01-02T03:04:05Z&sig=s", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("se=2026-01-02&sig=s", datetime(2026, 1, 2, tzinfo=UTC)),
        ("se=2026-01-02", None),
        ("se=soon&sig=s", None),
        ("expires=900", None),
        ("expires=never", None),
        ("", None),
    ],
)
def test_a_signed_url_tells_until_when_it_holds(query: str, until: datetime | None) -> None:
    assert expiry(f"https://example.com/v.mp4?{query}") == until
