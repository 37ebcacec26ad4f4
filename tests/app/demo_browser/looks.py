"""What eyes would see on a page, measured by the browser itself: contrast, overlaps, text cut off, focus."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from playwright.sync_api import Page

# Contrast by WCAG 2.2, 1.4.3 and its definition of relative luminance. What lies beneath a text is taken from the
# browser's own hit test, so that a label on a bar is held against the bar.
_FAINT = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = new Map();
  const rgba = css => {
    if (!known.has(css)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = css;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(css, [r, g, b, a / 255]);
    }
    return known.get(css);
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const UNSEEN = 'script, style, noscript, title, [disabled], [aria-disabled=true]';
  const SHAPES = 'rect, path, circle, ellipse, polygon';
  const opacity = element => {
    let product = 1;
    for (let at = element; at; at = at.parentElement) product *= parseFloat(getComputedStyle(at).opacity);
    return product;
  };
  // All colours that may be what an element paints, more than one where it paints a gradient.
  const paints = element => {
    const style = getComputedStyle(element);
    if (element instanceof SVGElement) {
      if (!element.matches(SHAPES) || style.fill === 'none') return [];
      const [r, g, b, a] = rgba(style.fill);
      return [[r, g, b, a * parseFloat(style.fillOpacity) * opacity(element)]];
    }
    const stops = style.backgroundImage.match(/(rgba?|color|oklch|oklab|hsla?)\\([^()]*\\)/g) || [];
    return stops.length ? stops.map(rgba) : [rgba(style.backgroundColor)];
  };
  const beneath = stack => {
    let below = [[255, 255, 255, 1]];
    for (const element of stack.reverse()) {
      const tops = paints(element);
      if (tops.length) below = tops.flatMap(top => below.map(under => over(top, under)));
      below = below.slice(0, 16);
    }
    return below;
  };
  const style = document.createElement('style');
  style.textContent = '* { pointer-events: auto !important; transition: none !important; animation: none !important }';
  document.head.append(style);
  const found = [];
  const seen = {texts: 0};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, element = node.parentElement;
    if (!node.data.trim() || element.closest(UNSEEN)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = [...range.getClientRects()].find(rect => rect.width > 2 && rect.height > 2);
    const css = getComputedStyle(element);
    if (!box || css.visibility !== 'visible') continue;
    const stack = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const own = stack.indexOf(element);
    if (own < 0) continue;  // hidden behind the edge of a box that scrolls, or transparent to the eye
    const svg = element instanceof SVGElement;
    const ink = rgba(svg ? css.fill : css.color).slice();
    ink[3] *= opacity(element) * (svg ? parseFloat(css.fillOpacity) : 1);
    if (ink[3] < 0.01) continue;
    seen.texts += 1;
    const below = beneath(stack.slice(own));
    const ratio = Math.min(...below.map(under => contrast(over(ink, under), under)));
    const size = svg ? box.height / 1.15 : parseFloat(css.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(css.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) {
      const home = element.closest('[id]');
      found.push(`${ratio.toFixed(2)} in #${home ? home.id : ''} ${element.tagName}: ` + node.data.trim().slice(0, 60));
    }
  }
  style.remove();
  return {faint: found, texts: seen.texts};
}
"""


def faint(page: Page) -> list[str]:
    """Return the texts whose contrast is below 4.5 (below 3 for large ones), after making all of the page visible."""
    show_all(page)
    seen = page.evaluate(_FAINT)
    assert seen["texts"] > 50, f"only {seen['texts']} texts were found: the probe is blind"
    found: list[str] = seen["faint"]
    return found


def show_all(page: Page) -> None:
    """Make the window as high as the page, so that nothing has to be scrolled to."""
    size = page.viewport_size
    assert size is not None
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(height, size["height"])})
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


_COLLISIONS = """
ids => {
  const found = [];
  const shown = element => element.getClientRects().length && getComputedStyle(element).visibility === 'visible';
  const meet = (a, b) => [Math.min(a.right, b.right) - Math.max(a.left, b.left),
                          Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
  const seen = {labels: 0, blocks: 0};
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    const home = svg.closest('[id]');
    const where = '#' + (home ? home.id : '');
    const labels = [...svg.querySelectorAll('text')].filter(text => shown(text) && text.textContent.trim());
    seen.labels += labels.length;
    const boxes = labels.map(text => text.getBoundingClientRect());
    labels.forEach((text, i) => {
      const name = text.textContent.trim(), box = boxes[i];
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 ||
          box.bottom > frame.bottom + 1) found.push(`${where}: "${name}" sticks out of its picture`);
      for (let j = 0; j < i; j++) {
        const [wide, high] = meet(box, boxes[j]);
        // A box of text has air above and below its letters.
        if (wide > 1 && high > 0.3 * Math.min(box.height, boxes[j].height))
          found.push(`${where}: "${name}" over "${labels[j].textContent.trim()}"`);
      }
    });
  }
  const blocks = ids.map(id => document.getElementById(id)).filter(block => block && shown(block));
  seen.blocks = blocks.length;
  blocks.forEach((block, i) => {
    for (const other of blocks.slice(0, i)) {
      if (block.contains(other) || other.contains(block)) continue;
      const [wide, high] = meet(block.getBoundingClientRect(), other.getBoundingClientRect());
      if (wide > 2 && high > 2) found.push(`#${block.id} over #${other.id}`);
    }
  });
  return {found, ...seen};
}
"""


def collisions(page: Page, blocks: tuple[str, ...]) -> list[str]:
    """Return labels of pictures that lie over each other or stick out, and blocks that lie over each other."""
    seen = page.evaluate(_COLLISIONS, list(blocks))
    assert seen["labels"] > 10 and seen["blocks"] > 5, f"the probe is blind: {seen}"
    found: list[str] = seen["found"]
    return found


_CUT_OFF = """
() => {
  const found = [];
  for (const element of document.querySelectorAll('button, label, label span, th, td, h1, h2, h3, p, li, figcaption')) {
    if (!element.getClientRects().length || !element.textContent.trim()) continue;
    const css = getComputedStyle(element);
    if (!['hidden', 'clip'].includes(css.overflowX) || element.scrollWidth <= element.clientWidth + 1) continue;
    found.push(`${element.tagName}: ${element.textContent.trim().slice(0, 60)}`);
  }
  return found;
}
"""


def cut_off(page: Page) -> list[str]:
    """Return texts that their own boxes cut off."""
    found: list[str] = page.evaluate(_CUT_OFF)
    return found


# The focus is taken away for a moment to see what it had changed; Tab goes on from there nevertheless.
_FOCUS = """
() => {
  const now = document.activeElement;
  window.__visited ??= new Set();
  if (!now || now === document.body || window.__visited.has(now)) return null;
  window.__visited.add(now);
  const around = [now, ...now.children];
  if (now.matches('input') && now.nextElementSibling) around.push(now.nextElementSibling);
  for (let at = now.parentElement, steps = 0; at && steps < 5; at = at.parentElement, steps++) around.push(at);
  const looks = () => around.map(element => {
    const css = getComputedStyle(element);
    const outline = css.outlineStyle === 'none' ? '' : css.outline;
    return [outline, css.boxShadow, css.borderColor, css.backgroundColor].join();
  }).join();
  const focused = looks(), box = now.getBoundingClientRect(), home = now.closest('[id]:not([id^="component-"])');
  const name = now.getAttribute('aria-label') || now.textContent.trim() || now.getAttribute('name') || '';
  now.blur();
  return {
    home: home ? home.id : '', tag: now.tagName, name: name.slice(0, 40), top: Math.round(box.top + scrollY),
    left: Math.round(box.left), visible: looks() !== focused,
  };
}
"""
_STILL = """
() => {
  const style = document.createElement('style');
  style.textContent = '* { transition: none !important; animation: none !important }';
  document.head.append(style);
  // Tab goes on from where the focus was last, even if that is gone.
  const top = document.createElement('button');
  document.body.prepend(top);
  top.focus();
  top.remove();
}
"""


def tab_stops(page: Page, limit: int = 80) -> list[dict[str, Any]]:
    """Press Tab from the top of the page until it leaves it; return where the focus was, and whether it could be seen.

    Each stop has ``home`` (the nearest id), ``tag``, ``name``, ``top`` and ``left`` (pixels), and ``visible``.
    """
    page.evaluate(_STILL)
    stops: list[dict[str, Any]] = []
    while len(stops) < limit:
        page.keyboard.press("Tab")
        stop = page.evaluate(_FOCUS)
        if stop is None:
            break
        stops.append(stop)
    return stops


def backwards(stops: list[dict[str, Any]]) -> list[str]:
    """Return the steps that jump up to something further left, against the order in which the page is read."""
    return [
        f"{before['home']} -> {after['home']}"
        for before, after in pairwise(stops)
        if after["top"] < before["top"] - 8 and after["left"] < before["left"] - 8
    ]
