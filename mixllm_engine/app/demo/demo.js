() => {
  // Gradio replaces what is inside of a place, so the place itself has to say that it is live.
  for (const id of ['answer', 'receipt', 'choice', 'progress', 'pool-message']) {
    const place = document.getElementById(id);
    place.setAttribute('aria-live', 'polite');
    place.setAttribute('role', 'status');
  }
  // Gradio gives every radio button a name of its own, so that the browser sees five groups of one. Here they are one
  // again, as https://www.w3.org/WAI/ARIA/apg/patterns/radio/ has it: one stop for Tab, and arrow keys within.
  const STEPS = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};
  const group = document.getElementById('budget');
  const radios = () => [...group.querySelectorAll('input')];
  const stopAt = chosen => radios().forEach(one => { one.tabIndex = one === chosen ? 0 : -1; });
  group.setAttribute('role', 'radiogroup');
  group.setAttribute('aria-label', 'Budget');
  group.addEventListener('change', event => stopAt(event.target));
  group.addEventListener('keydown', event => {
    const all = radios(), step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const next = all[(all.indexOf(event.target) + step + all.length) % all.length];
    next.focus();
    next.click();
  });
  stopAt(radios().find(one => one.checked));
}
