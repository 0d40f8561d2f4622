"""What tests share that run the app's pages without a browser."""

from streamlit.testing.v1 import AppTest

import unmask.web.app.main

MAIN = unmask.web.app.main.__file__


def open_app() -> AppTest:
    page = AppTest.from_file(MAIN, default_timeout=30).run()
    assert not page.exception
    return page


def open_page(name: str) -> AppTest:
    code = f"from unmask.web.app import main\nmain.run_page(main.{name})"
    page = AppTest.from_string(code, default_timeout=30).run()
    assert not page.exception
    return page


def give(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    page.file_uploader[0].set_value([(name, data, "application/octet-stream") for name, data in files]).run()
    assert not page.exception
    return page


def said(page: AppTest) -> str:
    parts = [*page.markdown, *page.caption, *page.error, *page.warning, *page.info, *page.title, *page.subheader]
    return "\n".join(str(part.value) for part in parts)
