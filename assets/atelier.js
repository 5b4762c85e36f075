// The page's keys and switches, and the draft of the prompt, which a reload keeps. No library, no build step.
// Stands in the head, before Gradio's own scripts: it says which language the browser speaks and keeps light or dark.
{
  const store = (key, value) => {
    try {
      if (value === undefined) return localStorage.getItem(`atelier-${key}`) ?? '';
      localStorage.setItem(`atelier-${key}`, value);
    } catch { /* no storage: nothing is kept */ }
    return '';
  };
  const language = store('language') || (navigator.language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en');
  Object.defineProperty(navigator, 'language', {get: () => language});
  document.documentElement.lang = language;

  const drafts = new Set();
  const keep = (area) => { const id = area?.closest('.draft')?.id; if (drafts.has(id)) store(`draft-${id}`, area.value); };
  const keepAll = () => document.querySelectorAll('.draft textarea').forEach(keep);
  // Tells this browser's pictures from others' where strangers share a studio.
  const visitor = store('visitor') || crypto.getRandomValues(new Uint32Array(4)).join('');
  store('visitor', visitor);
  const visible = (selector) => [...document.querySelectorAll(selector)].find((one) => one.checkVisibility());

  window.atelier = {
    typing: (target) => typing(target),
    // What this browser remembers under a key; with a value: from now on.
    kept: store,
    who: () => `${language}|${visitor}`,
    // Whether pictures leave without their settings; with a value: from now on.
    bare(on) {
      if (on !== undefined) store('strip', on ? 'yes' : 'no');
      document.documentElement.classList.toggle('is-bare', store('strip') === 'yes');
      return store('strip') === 'yes';
    },
    save(url, name) {
      const link = Object.assign(document.createElement('a'), {href: url, download: name});
      document.body.append(link);
      link.click();
      link.remove();
    },
    // Where an uploaded file lies, for app/intake.py; '' where it did not arrive. What is too large is not even sent.
    sent: (upload, file) => file.size > window.atelierLargest ? Promise.resolve('too large')
      : upload(file).then(({path = ''}) => path, () => ''),
    tab: () => document.querySelector('#tabs [role="tab"][aria-selected="true"]')?.dataset.tabId ?? '',
    draft(id) {
      drafts.add(id);
      return document.querySelector(`#${id} textarea`)?.value || store(`draft-${id}`);
    },
  };

  window.atelier.bare();
  document.addEventListener('input', (event) => keep(event.target.closest?.('.draft textarea')));
  addEventListener('pagehide', keepAll);

  // Gradio follows the system alone; a choice made here holds against it.
  const dress = () => {
    const wanted = store('theme');
    if (wanted && document.body.classList.contains('dark') !== (wanted === 'dark')) {
      document.body.classList.toggle('dark', wanted === 'dark');
    }
  };
  addEventListener('DOMContentLoaded', () => {
    new MutationObserver(dress).observe(document.body, {attributeFilter: ['class']});
    dress();
  });

  document.addEventListener('click', (event) => {
    const kind = event.target.closest?.('[data-switch]')?.dataset.switch;
    if (kind === 'theme') { store('theme', document.body.classList.contains('dark') ? 'light' : 'dark'); dress(); }
    if (kind === 'language') { keepAll(); store('language', language === 'en' ? 'zh-CN' : 'en'); location.reload(); }
  });

  // Words of the checkpoint's vocabulary go where the cursor stands, in the text that belongs to them.
  const insert = (area, text, from = area.selectionStart) => {
    const before = area.value.slice(0, from), after = area.value.slice(area.selectionEnd);
    const gap = before && !/[\s（，]$/.test(before) ? ' ' : '';
    const rest = after && !/^[\s,.;，。；]/.test(after) ? ' ' : '';
    area.value = before + gap + text + rest + after;
    area.selectionStart = area.selectionEnd = (before + gap + text).length;
    area.dispatchEvent(new Event('input', {bubbles: true}));
    area.focus();
  };
  document.addEventListener('click', (event) => {
    const word = event.target.closest?.('[data-insert]');
    const area = word?.closest('.tabitem')?.querySelector('.completes textarea');
    if (area) insert(area, word.dataset.insert);
  });

  // Completion: the vocabulary's phrases that have a word beginning like the one being typed. Tab takes one.
  const menu = document.createElement('ul');
  menu.className = 'completion';
  menu.id = 'completion';
  menu.setAttribute('role', 'listbox');
  let completed = null, chosen = 0;
  const closeMenu = () => { menu.remove(); completed?.removeAttribute('aria-activedescendant'); completed = null; };
  const mark = () => [...menu.children].forEach((item, at) => {
    item.setAttribute('aria-selected', at === chosen);
    if (at === chosen) completed.setAttribute('aria-activedescendant', item.id);
  });
  const begun = (area) => area.value.slice(0, area.selectionStart).match(/[\p{L}\d]+$/u)?.[0] ?? '';
  const take = () => {
    const area = completed, text = menu.children[chosen]?.dataset.text;
    closeMenu();
    if (!text) return;
    // An article that was typed already is not said twice.
    const typed = area.value.slice(0, area.selectionStart - begun(area).length);
    const start = text.match(/^(an?|on an?|in) /)?.[0] ?? '';
    const said = start && typed.endsWith(start) ? start.length : 0;
    insert(area, text, typed.length - said);
  };
  const offer = (area) => {
    closeMenu();
    const word = begun(area).toLowerCase();
    const quotes = (area.value.slice(0, area.selectionStart).match(/"/g) ?? []).length;
    if (word.length < 2 || quotes % 2) return;
    const phrases = [...area.closest('.tabitem').querySelectorAll('[data-insert]')].map((one) => one.dataset.insert);
    const fitting = phrases.filter((text) => text.toLowerCase().split(/\s+/).some((part) => part.startsWith(word) && part !== word)).slice(0, 6);
    if (!fitting.length) return;
    menu.replaceChildren(...fitting.map((text, at) => {
      const item = document.createElement('li');
      Object.assign(item, {id: `completion-${at}`, textContent: text, onmousedown: (down) => { down.preventDefault(); chosen = at; take(); }});
      item.setAttribute('role', 'option');
      item.dataset.text = text;
      return item;
    }));
    completed = area;
    chosen = 0;
    area.setAttribute('aria-controls', menu.id);
    area.parentElement.append(menu);
    mark();
  };
  document.addEventListener('input', (event) => { if (event.isTrusted && event.target.matches?.('.completes textarea')) offer(event.target); });
  document.addEventListener('focusout', (event) => { if (event.target === completed) closeMenu(); });
  document.addEventListener('keydown', (event) => {
    if (!completed || event.target !== completed || event.isComposing) return;
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (step) { chosen = (chosen + step + menu.children.length) % menu.children.length; mark(); }
    else if (event.key === 'Tab') take();
    else if (event.key === 'Escape') closeMenu();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);

  const typing = (target) => target.closest?.('input:not([type=radio], [type=checkbox], [type=range]), textarea, select, [contenteditable="true"]');
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      visible('.paint:not([disabled])')?.click();
    } else if (event.key === 'Escape' && !event.defaultPrevented) {
      // What is open listens for it itself and marks the event as used, or is closed here; a text is left; then it stops.
      const open = visible('[data-close]');
      if (open) open.click();
      else if (typing(event.target)) event.target.blur();
      else visible('.stop')?.click();
    }
  });
}
