"""task/NAME.html: all that was measured in a task, a section for each set of images and view."""

from __future__ import annotations

from typing import Any

from vtbench.leaderboard.addresses import task_address
from vtbench.leaderboard.overview import task_links
from vtbench.leaderboard.page import Page, Site
from vtbench.leaderboard.savings import savings


def pages(site: Site) -> list[Page]:
    names = dict.fromkeys(group.question.task for group in site.groups)
    return [_page(name, site) for name in names]


def _page(task: str, site: Site) -> Page:
    def facts() -> dict[str, Any]:
        sections = [section for section in site.sections if section.group.question.task == task]
        return {
            "sections": [(section, savings(section)) for section in sections],
            "tasks": task_links(site.sections),
        }

    return Page(task_address(task), "task.html.j2", facts)
