"""Guides (`*.md`), the course (`course/`), and the command that makes one static site of both (`build.py`)."""
