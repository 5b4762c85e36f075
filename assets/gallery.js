// The gallery's hands: asks the studio for pages and pictures, and says what a click or a key means. No library.
// Runs inside gr.HTML, which gives element, trigger, props, server, upload and watch.
const who = () => window.atelier.who();
const place = element.querySelector('.place');
const query = {text: '', task: '', star: false, tag: '', since: '', until: '', preset: '', trashed: false};
const chosen = new Set();
const LARGEST = 500;
const faces = new WeakMap();  // shot -> how the studio sent it
let cursor = '', busy = false, near = false, turn = 0, anchor = '', opened = '', from = null, again = 0, drawn = null;
let bare = window.atelier.bare();
let shots, viewer, hands, told, sieve, tools, end, search;

const ask = async (name, more = {}) => {
  const answer = await server[name]({who: who(), ...more});
  if (answer?.error && !answer.gone) tell({told: answer.error, wrong: true});
  return answer ?? {};
};
const all = () => [...shots.querySelectorAll('.shot')];
const shot = (key) => all().find((one) => one.dataset.key === key);
const inSight = () => element.checkVisibility();
const comparing = () => document.querySelector('#compare')?.checkVisibility() ?? false;

// Whether pictures leave without their settings.
function strip(on = bare) {
  bare = on;
  for (const box of element.querySelectorAll('.strip')) box.checked = on;
  for (const link of viewer.querySelectorAll('.whole')) link.hidden = on;
  for (const button of viewer.querySelectorAll('[data-act=bare]')) button.hidden = !on;
}

// what is told

function tell(...news) {
  told.replaceChildren();
  for (const {told: text = '', undo = '', keys = [], missing = [], wrong = false} of news) {
    if (!text) continue;
    const line = document.createElement('p');
    line.textContent = text;
    line.classList.toggle('is-wrong', wrong);
    if (undo && keys.length) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = undo;
      button.onclick = () => act('restore', keys);
      line.append(' ', button);
    }
    told.append(line);
    if (missing.length) {
      const list = document.createElement('ul');
      for (const sentence of missing) list.append(Object.assign(document.createElement('li'), {textContent: sentence}));
      told.append(list);
    }
  }
}

// the wall

async function load(more = false, limit = 60, older = false) {
  if (more && (busy || !cursor)) return;
  const mine = ++turn;
  busy = true;
  const page = await ask('shots', {...query, cursor: more ? cursor : '', limit});
  if (mine !== turn) return;
  busy = false;
  if (page.error) return;
  if (!older) cursor = page.cursor;
  if (more) shots.append(...pictures(page.html));
  else await renew(page, older);
  end.hidden = !cursor;
  mark();
  // The end may be in sight still, and what was asked for when it came there may have been overtaken.
  requestAnimationFrame(() => requestAnimationFrame(() => { if (near) load(true); }));
  if (page.unread) { clearTimeout(again); again = setTimeout(refresh, 1000); }
}

async function renew(page, older) {
  const focused = document.activeElement?.closest?.('.shot')?.dataset.key;
  const held = element.contains(document.activeElement) ? document.activeElement.dataset : {};
  sieve.innerHTML = `<span class="total">${page.told}</span>${page.sieve}`;
  // Somebody may be in the middle of a date.
  if (!tools.contains(document.activeElement) || held.act) tools.innerHTML = page.tools;
  if (held.act) element.querySelector(`.ask [data-act="${held.act}"], .sieve [data-act="${held.act}"][data-key="${CSS.escape(held.key)}"]`)?.focus();
  if (drawn !== page.html) {
    hang(page.html || template(), older);
    drawn = page.html;
  }
  if (focused) shot(focused)?.querySelector('.open').focus({preventScroll: true});
}

// What hangs there already stays: a picture that is being clicked must not be taken from under the hand.
// `older`: so do those that are older than all that is wanted.
function hang(html, older) {
  const before = new Map(all().map((one) => [one.dataset.key, one]));
  const wanted = pictures(html).map((one) => {
    const old = before.get(one.dataset.key);
    return old && faces.get(old) === faces.get(one) ? old : one;
  });
  const last = wanted.at(-1)?.dataset.key ?? '';
  if (older) wanted.push(...[...before].filter(([key]) => key < last).map(([, one]) => one));
  const kept = new Set(wanted);
  for (const one of [...shots.children]) if (!kept.has(one)) one.remove();
  let at = shots.firstElementChild;
  for (const one of wanted) {
    if (one === at) at = at.nextElementSibling;
    else shots.insertBefore(one, at);
  }
}

function pictures(html) {
  const made = [...Object.assign(document.createElement('template'), {innerHTML: html}).content.children];
  for (const one of made) faces.set(one, one.outerHTML);
  return made;
}

function template() {
  const {trashed, ...sieved} = query;
  const kind = Object.values(sieved).some(Boolean) ? 'no-match' : trashed ? 'no-trash' : 'no-pictures';
  return element.querySelector(`template.${kind}`).innerHTML;
}

// As many as are shown; where somebody has walked far, the newest of them, and those behind stay as they are.
function refresh() {
  const count = all().length;
  return load(false, Math.max(60, Math.min(LARGEST, count)), count > LARGEST);
}

function filter(change) {
  Object.assign(query, change);
  chosen.clear();
  return load();
}

// the selection

function mark() {
  const there = new Set(all().map((one) => one.dataset.key));
  for (const key of chosen) if (!there.has(key)) chosen.delete(key);
  for (const one of all()) {
    const on = chosen.has(one.dataset.key);
    one.classList.toggle('is-chosen', on);
    one.querySelector('.pick').setAttribute('aria-checked', on);
  }
  const every = chosen.size && [...chosen].every((key) => shot(key).classList.contains('is-starred'));
  element.querySelector('.gallery').classList.toggle('is-choosing', chosen.size > 0);
  hands.hidden = !chosen.size;
  hands.querySelector('b').textContent = chosen.size;
  for (const part of hands.querySelectorAll('.kept')) part.hidden = query.trashed;
  for (const part of hands.querySelectorAll('.gone')) part.hidden = !query.trashed;
  hands.querySelector('.pair').hidden = query.trashed || chosen.size !== 2;
  hands.querySelector('[data-act=star]').hidden = query.trashed || every;
  hands.querySelector('[data-act=unstar]').hidden = query.trashed || !every;
}

function pick(key, range = false) {
  const keys = all().map((one) => one.dataset.key);
  if (range && keys.includes(anchor)) {
    const [low, high] = [keys.indexOf(anchor), keys.indexOf(key)].sort((a, b) => a - b);
    for (const one of keys.slice(low, high + 1)) chosen.add(one);
  } else if (!chosen.delete(key)) chosen.add(key);
  anchor = key;
  mark();
}

// what is done

async function act(name, keys, more = {}) {
  const answer = await ask('deed', {act: name, keys, ...more});
  if (answer.error) return answer;
  if (answer.told) tell(answer);
  if (['star', 'unstar'].includes(name)) {
    for (const key of answer.keys) shot(key)?.classList.toggle('is-starred', name === 'star');
  }
  if (['discard', 'restore', 'delete', 'empty'].includes(name)) {
    if (answer.keys.includes(opened)) await leave(opened);
    chosen.clear();
    // Those that went leave at once; the refresh fills up and counts.
    for (const key of answer.keys) shot(key)?.remove();
  }
  drawn = null;
  await refresh();
  return answer;
}

async function star(key) {
  const on = shot(key)?.classList.contains('is-starred') ?? viewer.querySelector('.star')?.ariaPressed === 'true';
  await act(on ? 'unstar' : 'star', [key]);
  if (opened === key) await open(key);
}

async function pack(keys, strip) {
  const answer = await ask('pack', {keys, strip});
  if (!answer.error) window.atelier.save(answer.url, answer.name);
}

async function bring(files) {
  // What went well is counted; what did not is told file by file.
  const well = new Map(), others = [];
  let last = '';
  for (const file of files) {
    const path = await window.atelier.sent(upload, file);
    const answer = await server.adopt({who: who(), path}) ?? {};
    last = answer.key ?? last;
    if (answer.error) others.push({told: answer.error, wrong: true});
    else if (answer.missing.length) others.push({...answer, told: files.length > 1 ? `${file.name}: ${answer.told}` : answer.told});
    else well.set(answer.told, (well.get(answer.told) ?? 0) + 1);
    tell(...[...well].map(([text, count]) => ({told: count > 1 ? `${text} × ${count}` : text})), ...others);
  }
  if (!last) return;
  await filter({text: '', task: '', star: false, tag: '', since: '', until: '', preset: '', trashed: false});
  search.value = '';
  shot(last)?.scrollIntoView({block: 'nearest'});
}

// one picture, large

async function open(key) {
  // At once, so that keys that follow mean this picture; whoever walked on meanwhile does not want the answer.
  opened = key;
  const answer = await ask('show', {key});
  if (opened !== key) return;
  if (answer.gone) { tell({told: answer.error, wrong: true}); close(); return; }
  if (answer.error) { if (viewer.hidden) opened = ''; return; }
  const writing = viewer.contains(document.activeElement) && document.activeElement.matches('.tag-one');
  const first = viewer.hidden;
  if (first) from = document.activeElement;
  viewer.innerHTML = answer.html;
  strip();
  viewer.hidden = false;
  document.body.classList.add('is-viewing');
  const here = all().map((one) => one.dataset.key);
  viewer.querySelector('.is-previous').disabled = here.indexOf(key) < 1;
  viewer.querySelector('.is-next').disabled = !cursor && here.indexOf(key) === here.length - 1;
  if (writing) viewer.querySelector('.tag-one').focus();
  else if (first || !viewer.contains(document.activeElement)) viewer.querySelector('.close').focus({preventScroll: true});
}

function close() {
  if (viewer.hidden) { opened = ''; return; }
  viewer.hidden = true;
  document.body.classList.remove('is-viewing');
  const one = shot(opened);
  opened = '';
  one?.scrollIntoView({block: 'nearest'});
  (one?.querySelector('.open') ?? from)?.focus({preventScroll: true});
}

async function walk(step) {
  const keys = all().map((one) => one.dataset.key);
  const here = keys.indexOf(opened);
  if (here + step >= keys.length && cursor) { await load(true); return walk(step); }
  const key = keys[here + step];
  if (key) await open(key);
}

// The picture that is seen went away: the next one takes its place.
async function leave(key) {
  const one = shot(key);
  const next = one?.nextElementSibling ?? one?.previousElementSibling;
  if (next?.dataset.key) await open(next.dataset.key);
  else close();
}

// A menu of other tabs: any click elsewhere shuts it, and Escape before it closes the picture.
function shut() {
  const menu = viewer.querySelector('details[open]');
  if (menu?.contains(document.activeElement)) menu.querySelector('summary').focus();
  menu?.removeAttribute('open');
  return Boolean(menu);
}

// clicks

function sure(button) {
  for (const other of element.querySelectorAll('.is-sure')) {
    if (other !== button) { other.classList.remove('is-sure'); other.textContent = other.dataset.asked; }
  }
  if (!button?.dataset.sure || button.classList.contains('is-sure')) return true;
  button.dataset.asked = button.textContent;
  button.textContent = button.dataset.sure;
  button.classList.add('is-sure');
  return false;
}

element.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-act]');
  if (!event.target.closest('details')) shut();
  if (!sure(button)) return;
  const one = event.target.closest('.shot');
  if (one) {
    const {key} = one.dataset;
    if (event.target.closest('.pick') || event.ctrlKey || event.metaKey || event.shiftKey || chosen.size) pick(key, event.shiftKey);
    else await open(key);
    return;
  }
  if (event.target === viewer || event.target.matches('.large')) close();
  if (!button) return;
  const {act: name, key, to} = button.dataset;
  const keys = [...chosen];
  switch (name) {
    case 'starred': return filter({star: !query.star});
    case 'task': return filter({task: query.task === key ? '' : key});
    case 'tag': return filter({tag: query.tag.toLowerCase() === key.toLowerCase() ? '' : key});
    case 'trash': tell({}); return filter({trashed: !query.trashed});
    case 'clear':
      search.value = '';
      return filter({text: '', task: '', star: false, tag: '', since: '', until: '', preset: ''});
    case 'empty': return act('empty', []);
    case 'all': for (const other of all()) chosen.add(other.dataset.key); return mark();
    case 'unselect': chosen.clear(); return mark();
    case 'zip': return pack(keys, bare);
    case 'compare': return trigger('act', {act: 'compare', key: keys[0], to: keys[1], cargo: ''});
    case 'star': case 'unstar': case 'discard': case 'restore': case 'delete': return act(name, keys);
    case 'close': return close();
    case 'previous': return walk(-1);
    case 'next': return walk(1);
    case 'relative': return open(key);
    case 'toggle-star': return star(opened);
    case 'untag': await act('untag', [opened], {tag: key}); return opened && open(opened);
    case 'discard-one': return act('discard', [opened]);
    case 'restore-one': return act('restore', [opened]);
    case 'delete-one': return act('delete', [opened]);
    case 'bare': return pack([opened], true);
    case 'send': case 'reuse': {
      const sent = opened;
      close();
      return trigger('act', {act: 'send', key: sent, to, cargo: name === 'send' ? 'picture' : key});
    }
  }
});

// typing and choosing

let wait = 0;
element.addEventListener('input', (event) => {
  if (event.target !== search) return;
  clearTimeout(wait);
  wait = setTimeout(() => filter({text: search.value}), 200);
});

element.addEventListener('change', (event) => {
  const {target} = event;
  if (target.matches('.since, .until')) filter({[target.className]: target.value});
  if (target.matches('.strip')) { strip(target.checked); window.atelier.bare(bare); }
  if (target.matches('select.preset')) filter({preset: target.value});
  if (target.matches('.bring input')) { bring([...target.files]); target.value = ''; }
});

async function addTag(input) {
  const tag = input.value.trim();
  if (!tag) return;
  const one = input.matches('.tag-one');
  const answer = await act('tag', one ? [opened] : [...chosen], {tag});
  if (answer.error) return;
  input.value = '';
  if (one) await open(opened);
}

// keys

function step(key) {
  const list = all();
  const here = list.indexOf(document.activeElement?.closest?.('.shot'));
  if (here < 0) return list[0];
  if (key === 'ArrowLeft') return list[here - 1];
  if (key === 'ArrowRight') return list[here + 1];
  if (key === 'Home' || key === 'End') return list.at(key === 'Home' ? 0 : -1);
  // Rows are as wide as their pictures: the one whose middle is nearest in the next row.
  const box = list[here].getBoundingClientRect(), middle = box.left + box.width / 2, down = key === 'ArrowDown';
  const rows = list.map((one) => [one, one.getBoundingClientRect()]).filter(([, other]) => (down ? other.top >= box.bottom : other.bottom <= box.top));
  const edge = down ? Math.min(...rows.map(([, other]) => other.top)) : Math.max(...rows.map(([, other]) => other.top));
  const near = (other) => Math.abs(other.left + other.width / 2 - middle);
  return rows.filter(([, other]) => Math.abs(other.top - edge) < 2).sort(([, a], [, b]) => near(a) - near(b))[0]?.[0];
}

const ARROWS = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1};

function pressed(event) {
  const {key, target} = event;
  if (key === 'Enter' && target.matches?.('.tag-one, .tag-many')) { addTag(target); return true; }
  if (key === 'Escape') {
    if (comparing()) document.querySelector('#compare-close').click();
    else if (opened) shut() || close();
    else if (chosen.size) { chosen.clear(); mark(); }
    else return false;
    return true;
  }
  if (window.atelier.typing(target) || event.ctrlKey || event.metaKey || event.altKey || comparing()) return false;
  const focused = document.activeElement?.closest?.('.shot')?.dataset.key;
  const keys = opened ? [opened] : chosen.size ? [...chosen] : focused ? [focused] : [];
  if (opened && key === 'Tab') return hold(event);
  if (key === 's' || key === 'S') {
    if (keys.length === 1) star(keys[0]);
    else if (keys.length) act('star', keys);
    return keys.length > 0;
  }
  if (key === 'Delete' && keys.length && !query.trashed) { act('discard', keys); return true; }
  if (opened) return key in ARROWS && (walk(ARROWS[key]), true);
  if (key === ' ' && focused) { pick(focused, event.shiftKey); return true; }
  if (!(key in ARROWS || (focused && (key === 'Home' || key === 'End')))) return false;
  const next = step(key);
  next?.querySelector('.open').focus();
  return Boolean(next);
}

// The large picture keeps the focus.
function hold(event) {
  const stops = [...viewer.querySelectorAll('button:not([disabled]), a, input, summary')].filter((one) => one.checkVisibility());
  const [first, last] = [stops[0], stops.at(-1)];
  const edge = event.shiftKey ? first : last;
  if (document.activeElement !== edge && viewer.contains(document.activeElement)) return false;
  (event.shiftKey ? last : first).focus();
  return true;
}

// Before the page's own keys, which stop the work on Escape.
addEventListener('keydown', (event) => {
  if (inSight() && !event.defaultPrevented && pressed(event)) { event.preventDefault(); event.stopPropagation(); }
}, true);

// files that are dropped

const carries = (event) => inSight() && [...(event.dataTransfer?.types ?? [])].includes('Files');
addEventListener('dragover', (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  element.querySelector('.drop').hidden = false;
});
addEventListener('dragleave', (event) => { if (!event.relatedTarget) element.querySelector('.drop').hidden = true; });
addEventListener('drop', (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  element.querySelector('.drop').hidden = true;
  bring([...event.dataTransfer.files]);
});

// the beginning

const enter = async () => {
  place.innerHTML = (await ask('enter')).html;
  [shots, viewer, hands, told, sieve, tools, end, search] =
    ['.shots', '.viewer', '.hands', '.told', '.sieve', '.tools', '.end', '.query'].map((name) => element.querySelector(name));
  strip();
  new IntersectionObserver((seen) => { near = seen.at(-1).isIntersecting; if (near) load(true); }, {rootMargin: '900px'}).observe(end);
  await load();
  if (props.chosen) await open(props.chosen.split(' ')[0]);
};
const entered = enter();
watch('news', () => entered.then(refresh));
watch('chosen', () => entered.then(async () => { await refresh(); if (props.chosen) await open(props.chosen.split(' ')[0]); }));
