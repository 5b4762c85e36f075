// The board of the text layout: boxes on the picture's place and their list, by mouse, touch and keyboard. No library.
// `list` fills the gr.HTML in the desk, `canvas` the one in the picture's place. The boxes are kept here, go to the
// studio as one JSON value, and survive a reload; what is shown beneath them, and what was read, comes from there.
{
  const {words, colors, letterings, cell, most} = window.atelierBoard;
  const say = (key, values = {}) => {
    const text = (words[window.atelier.who().startsWith('zh') ? 'zh' : 'en'][key] ?? key);
    return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
  };
  const zh = () => window.atelier.who().startsWith('zh');
  const DRAFT = 'atelier-draft-board', NEAR = 8, STEPS = 200, PATIENCE = 3000;
  const FONTS = {
    serif: 'Georgia, "Times New Roman", serif', handwritten: '"Segoe Script", "Bradley Hand", cursive', brush: '"Segoe Script", cursive',
    chalk: '"Chalkboard SE", "Comic Sans MS", cursive', rounded: 'ui-rounded, "Arial Rounded MT Bold", sans-serif', pixel: 'ui-monospace, monospace',
  };
  const ICONS = {
    add: 'M10 4v12M4 10h12', undo: 'M8 5 4 9l4 4M4 9h8a4 4 0 0 1 0 8h-2', redo: 'm12 5 4 4-4 4m4-4H8a4 4 0 0 0 0 8h2',
    duplicate: 'M7 7h9v9H7zM13 7V4H4v9h3', remove: 'M4 6h12M8 6V4h4v2M6 6l1 10h6l1-10', snap: 'M5 4v6a5 5 0 0 0 10 0V4h-3v6a2 2 0 0 1-4 0V4zM5 7h3m4 0h3',
    left: 'M4 5h12M4 10h7M4 15h10', centre: 'M4 5h12M6.5 10h7M5 15h10', right: 'M4 5h12M9 10h7M6 15h10',
  };

  const state = {boxes: [], shape: '', edit: 0, selected: null, past: [], future: [], kind: '', mode: 'boxes', page: 0, keys: null, snap: true, view: null, restoring: true};
  let list = null, canvas = null, counter = 0, timer = 0, told = '', drag = null, typing = null;

  // --- small things ---------------------------------------------------------------------------------------------------

  const make = (tag, attributes = {}, ...children) => {
    const one = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith('on')) one.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) one.setAttribute(name, value === true ? '' : value);
    }
    one.append(...children.filter((child) => child !== null));
    return one;
  };
  const icon = (name) => {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', '0 0 20 20');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS(svg.namespaceURI, 'path');
    path.setAttribute('d', ICONS[name]);
    svg.append(path);
    return svg;
  };
  const button = (name, act, extra = {}, word = name) => make('button', {type: 'button', 'aria-label': say(`board.${word}`), title: say(`board.${word}`), onclick: act, ...extra}, icon(name));
  const round = (value) => Math.round(value * 1e5) / 1e5;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const percent = (value) => Math.round(value * 100);
  const pick = (id) => state.boxes.find((one) => one.id === id);
  const chosen = () => pick(state.selected);
  const same = (one, other) => one.every((side, index) => Math.abs(side - other[index]) < 0.002);
  const grid = () => ({cols: Math.max(1, Math.round((state.view?.width ?? 256) / cell)), rows: Math.max(1, Math.round((state.view?.height ?? 256) / cell))});
  const picture = () => state.view?.pictures[state.page] ?? null;
  const tell = (text) => { if (canvas) canvas.live.textContent = text; };
  const shown = (name) => colors.find((one) => one.name === name)?.css ?? (name && CSS.supports('color', name) ? name : '');

  // --- what changes the boxes -----------------------------------------------------------------------------------------

  const copy = () => state.boxes.map((one) => ({...one, box: [...one.box]}));
  // The shape is the studio's own widget; it is kept with the boxes, and until a draft's is back, the draft's is.
  const value = () => {
    if (!state.restoring) state.shape = document.querySelector('#regions-shape input:checked')?.value ?? state.shape;
    return JSON.stringify({boxes: state.boxes.map(({id, ...rest}) => rest), shape: state.shape, edit: state.edit});
  };
  const keep = () => { try { localStorage.setItem(DRAFT, value()); } catch { /* no storage: nothing is kept */ } };
  // Said again, a few times, until the studio answers: what a page says while it is being built may be heard by nobody.
  const send = (wait = 200, left = 5) => {
    keep();
    told = value();
    if (list) list.props.value = told;
    clearTimeout(timer);
    timer = setTimeout(() => {
      list?.trigger(state.restoring ? 'restore' : 'edit');
      if (left) timer = setTimeout(send, PATIENCE, 0, left - 1);
    }, wait);
  };
  const remember = (before, kind = '') => {
    if (!kind || kind !== state.kind) state.past.push(before);
    if (state.past.length > STEPS) state.past.shift();
    state.future.length = 0;
    state.kind = kind;
  };
  const publish = () => {
    state.edit += 1;
    state.mode = 'boxes';
    send();
    render();
  };
  const change = (mutate, kind = '') => {
    const before = copy();
    mutate();
    remember(before, kind);
    publish();
  };
  const travel = (from, to, said) => {
    if (!from.length) return;
    const focused = document.activeElement?.closest?.('.board .box') ? state.selected : null;
    to.push(copy());
    state.boxes = from.pop();
    state.kind = '';
    if (!chosen()) state.selected = null;
    publish();
    if (focused) (canvas.boxes.get(focused) ?? canvas.paper).focus();
    tell(say(said));
  };
  const undo = () => travel(state.past, state.future, 'board.undone');
  const redo = () => travel(state.future, state.past, 'board.redone');
  const select = (id, focus = false) => {
    state.selected = id;
    render();
    if (focus && id) canvas?.boxes.get(id)?.focus({preventScroll: true});
  };
  const insert = (box, like = {}) => {
    if (state.boxes.length >= most) { tell(say('board.full', {most})); return null; }
    const one = {text: '', color: '', style: '', align: 'centre', ...like, id: `b${counter += 1}`, box: box.map(round)};
    change(() => state.boxes.push(one));
    select(one.id, true);
    return one;
  };
  const looks = () => { const {color = '', style = '', align = 'centre'} = chosen() ?? state.boxes.at(-1) ?? {}; return {color, style, align}; };
  const add = () => {
    const {cols, rows} = grid();
    const wide = Math.max(1, Math.round(cols * 0.75)) / cols, high = Math.min(rows, Math.max(2, Math.round(rows * 0.2))) / rows;
    const left = Math.floor((cols - wide * cols) / 2) / cols;
    const free = (top) => state.boxes.every(({box}) => box[3] <= top + 1e-4 || box[1] >= top + high - 1e-4);
    const tops = Array.from({length: rows}, (_, row) => row / rows).filter((top) => top + high <= 1 + 1e-4);
    const top = tops.find(free) ?? tops[Math.floor(tops.length / 2)] ?? 0;
    const one = insert([left, top, left + wide, Math.min(1, top + high)], looks());
    if (one) list?.rows.get(one.id)?.text.focus();
  };
  const duplicate = (from = chosen()) => {
    if (!from) return;
    const [left, top, right, bottom] = from.box, high = bottom - top, {rows} = grid();
    const down = bottom + high <= 1 + 1e-4 ? high : top - high >= -1e-4 ? -high : clamp(1 / rows, 0, 1 - bottom);
    const {id, box, ...rest} = from;
    insert([left, Math.max(0, top + down), right, Math.min(1, bottom + down)], rest);
  };
  const remove = (one = chosen()) => {
    if (!one) return;
    const place = state.boxes.indexOf(one), focused = document.activeElement?.closest?.('.board');
    change(() => state.boxes.splice(place, 1));
    const next = state.boxes[Math.min(place, state.boxes.length - 1)];
    select(next?.id ?? null);
    if (focused) (canvas.boxes.get(next?.id) ?? canvas.paper).focus();
    tell(say('board.removed'));
  };

  // --- places ---------------------------------------------------------------------------------------------------------

  // Lines of a moving box on one axis, to what they should meet: the picture's middle and edges and the other boxes'
  // first, else the code grid. Answers by how much to shift, and which line was met.
  const snap = (lines, axis, id, free) => {
    if (free || !state.snap) return {shift: 0, met: null};
    const size = axis ? canvas.paper.clientHeight : canvas.paper.clientWidth, count = axis ? grid().rows : grid().cols;
    const others = state.boxes.filter((one) => one.id !== id).flatMap(({box}) => [box[axis], box[axis + 2], (box[axis] + box[axis + 2]) / 2]);
    let best = null;
    for (const line of lines) for (const target of [0.5, ...others]) {
      const shift = target - line;
      if (Math.abs(shift) * size <= NEAR && (!best || Math.abs(shift) < Math.abs(best.shift))) best = {shift, met: target};
    }
    if (best) return best;
    const shift = Math.round(lines[0] * count) / count - lines[0];
    const met = [0.5, ...others].find((target) => lines.some((line) => Math.abs(line + shift - target) < 1e-3)) ?? null;
    return {shift, met};
  };
  const guide = (x, y) => {
    for (const [line, at, side] of [[canvas.across, x, 'left'], [canvas.down, y, 'top']]) {
      line.hidden = at === null;
      if (at !== null) line.style[side] = `${at * 100}%`;
    }
  };
  const least = () => { const {cols, rows} = grid(); return state.snap ? [1 / cols, 1 / rows] : [12 / canvas.paper.clientWidth, 12 / canvas.paper.clientHeight]; };
  const moved = ([left, top, right, bottom], x, y, id, free) => {
    const wide = right - left, high = bottom - top;
    left = clamp(left + x, 0, 1 - wide);
    top = clamp(top + y, 0, 1 - high);
    const sideways = snap([left, left + wide, left + wide / 2], 0, id, free), upright = snap([top, top + high, top + high / 2], 1, id, free);
    guide(sideways.met, upright.met);
    left = clamp(left + sideways.shift, 0, 1 - wide);
    top = clamp(top + upright.shift, 0, 1 - high);
    return [left, top, left + wide, top + high].map(round);
  };
  const resized = (box, edges, x, y, id, free) => {
    const result = [...box], [wide, high] = least(), met = [null, null];
    for (const edge of edges) {
      const axis = edge % 2, opposite = result[(edge + 2) % 4], room = axis ? high : wide;
      const line = clamp(box[edge] + (axis ? y : x), 0, 1), near = snap([line], axis, id, free);
      const low = edge < 2 ? 0 : Math.min(1, opposite + room), top = edge < 2 ? Math.max(0, opposite - room) : 1;
      result[edge] = clamp(line + near.shift, low, top);
      met[axis] = near.met;
    }
    guide(...met);
    return result.map(round);
  };
  const step = (line, direction, count, size) => {
    if (!state.snap) return line + direction * 4 / size;
    return (direction > 0 ? Math.floor(line * count + 1e-3) + 1 : Math.ceil(line * count - 1e-3) - 1) / count;
  };
  const nudge = (one, key, resize) => {
    const axis = key === 'ArrowUp' || key === 'ArrowDown' ? 1 : 0, direction = key === 'ArrowLeft' || key === 'ArrowUp' ? -1 : 1;
    const {cols, rows} = grid(), count = axis ? rows : cols, size = axis ? canvas.paper.clientHeight : canvas.paper.clientWidth;
    const box = [...one.box], extent = box[axis + 2] - box[axis];
    if (resize) box[axis + 2] = clamp(step(box[axis + 2], direction, count, size), Math.min(1, box[axis] + least()[axis]), 1);
    else {
      box[axis] = clamp(step(box[axis], direction, count, size), 0, 1 - extent);
      box[axis + 2] = box[axis] + extent;
    }
    change(() => { one.box = box.map(round); }, `${resize ? 'size' : 'move'}-${one.id}`);
    tell(place(one));
  };
  const place = ({box: [left, top, right, bottom]}) => say('board.place', {left: percent(left), top: percent(top), right: percent(right), bottom: percent(bottom)});
  const named = (one) => {
    const number = state.boxes.indexOf(one) + 1, look = [naming(colors, one.color), naming(letterings, one.style)].filter(Boolean).join(', ');
    return `${say('board.box', {number})}: ${one.text || say('board.no_text')}${look ? `, ${look}` : ''}. ${place(one)}`;
  };
  const naming = (from, name) => { const known = from.find((one) => one.name === name); return known && zh() ? known.zh : name; };

  // --- lettering ------------------------------------------------------------------------------------------------------

  const pen = document.createElement('canvas').getContext('2d');
  const face = (style) => ({
    family: FONTS[style] ?? getComputedStyle(document.body).fontFamily,
    weight: /bold|neon/.test(style) ? 800 : /thin/.test(style) ? 300 : 600,
    slant: style === 'italic' ? 'italic' : 'normal',
  });
  // The largest letters with which a text fits its box, in lines that break at spaces and between Chinese characters.
  const fit = (text, wide, high, style) => {
    const {family, weight, slant} = face(style);
    pen.font = `${slant} ${weight} 100px ${family}`;
    const parts = text.match(/[\u2e80-\u9fff\uff00-\uffef]|[^\s\u2e80-\u9fff\uff00-\uffef]+|\s+/g) ?? [];
    const widths = parts.map((part) => pen.measureText(part).width / 100);
    const lines = (size) => {
      let count = 1, used = 0;
      for (const [index, part] of parts.entries()) {
        const width = widths[index] * size;
        if (width > wide && part.trim()) return Infinity;
        if (used + width > wide && part.trim()) { count += 1; used = width; } else used += width;
      }
      return count;
    };
    let low = 5, top = Math.max(5, high);
    for (let turn = 0; turn < 14; turn += 1) {
      const size = (low + top) / 2;
      if (lines(size) * size * 1.12 <= high) low = size; else top = size;
    }
    return low;
  };
  const light = (css) => {
    pen.fillStyle = '#000';
    pen.fillStyle = css;
    const [r, g, b] = pen.fillStyle.match(/[\da-f]{2}/gi).map((pair) => parseInt(pair, 16));
    return 0.299 * r + 0.587 * g + 0.114 * b > 140;
  };
  const letter = (span, one) => {
    const wide = (one.box[2] - one.box[0]) * canvas.paper.clientWidth - 16, high = (one.box[3] - one.box[1]) * canvas.paper.clientHeight - 6;
    const {family, weight, slant} = face(one.style);
    span.textContent = one.text;
    Object.assign(span.style, {
      fontSize: `${fit(one.text, Math.max(8, wide), Math.max(8, high), one.style)}px`, fontFamily: family, fontWeight: weight, fontStyle: slant,
      textAlign: {left: 'left', right: 'right'}[one.align] ?? 'center', color: shown(one.color),
    });
  };

  // --- the canvas -----------------------------------------------------------------------------------------------------

  const HANDLES = {nw: [0, 1], n: [1], ne: [2, 1], e: [2], se: [2, 3], s: [3], sw: [0, 3], w: [0]};
  const drawBox = (one) => {
    let element = canvas.boxes.get(one.id);
    if (!element) {
      element = make('div', {class: 'box', tabindex: '0', role: 'group', 'data-id': one.id},
        make('span', {class: 'lettering', 'aria-hidden': 'true'}), make('span', {class: 'number', 'aria-hidden': 'true'}),
        ...Object.keys(HANDLES).map((side) => make('i', {class: `handle is-${side}`, 'data-side': side})));
      element.addEventListener('focus', () => { if (state.selected !== one.id) select(one.id); });
      element.addEventListener('dblclick', () => write(one.id));
      canvas.boxes.set(one.id, element);
    }
    const [left, top, right, bottom] = one.box;
    Object.assign(element.style, {left: `${left * 100}%`, top: `${top * 100}%`, width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%`});
    const css = shown(one.color), number = state.boxes.indexOf(one) + 1;
    element.className = `box${state.selected === one.id ? ' is-selected' : ''}${css ? (light(css) ? ' is-light' : ' is-dark') : ''}${one.text ? '' : ' is-empty'}${advice(one) ? ' has-advice' : ''}`;
    element.setAttribute('aria-label', named(one));
    element.setAttribute('aria-roledescription', say('board.kind'));
    element.querySelector('.number').textContent = number;
    letter(element.querySelector('.lettering'), one);
    return element;
  };
  const drawMark = (line) => {
    const [left, top, right, bottom] = line.box, read = line.read === null ? null : line.match ? '' : line.read || say('board.nothing');
    const label = read === null ? line.text : line.match ? say('board.right', {wanted: line.text}) : say('board.wrong', {wanted: line.text, read});
    const mark = make('button', {
      type: 'button', class: `mark${read === null ? '' : line.match ? ' is-right' : ' is-wrong'}${top < 0.09 ? ' is-high' : ''}`, 'aria-label': label, title: label,
      onclick: () => {
        const one = state.boxes.find(({text, box}) => text === line.text && same(box, line.box));
        state.mode = 'boxes';
        select(one?.id ?? null, true);
      },
    }, read === null ? '' : make('span', {class: 'badge', 'aria-hidden': 'true'}, line.match ? tick() : read));
    Object.assign(mark.style, {left: `${left * 100}%`, top: `${top * 100}%`, width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%`});
    return mark;
  };
  const tick = () => { const svg = icon('add'); svg.firstChild.setAttribute('d', 'm4 10.5 4 4 8-9'); return svg; };
  const fill = (parent, children) => {
    // What stands where it should is left alone: an element that is taken out and put back loses the focus.
    children.forEach((child, index) => { if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null); });
    while (parent.children.length > children.length) parent.lastChild.remove();
  };
  const renderCanvas = () => {
    const {paper, under, stage} = canvas, mode = state.mode, now = picture(), asked = state.view ?? {width: 256, height: 256};
    const size = mode !== 'boxes' && now ? now : asked, {cols, rows} = grid(), coarse = Math.ceil(Math.max(cols, rows) / 32);
    stage.style.setProperty('--ratio', size.width / size.height);
    paper.style.setProperty('--cols', cols / coarse);
    paper.style.setProperty('--rows', rows / coarse);
    paper.className = `paper is-${mode}${state.boxes.length ? '' : ' is-blank'}${now?.sketch ? ' is-sketch' : ''}`;
    under.hidden = !now?.url;
    if (now?.url && under.getAttribute('src') !== now.url) under.src = now.url;
    under.alt = mode === 'boxes' ? '' : now?.alt ?? '';
    for (const [id, element] of canvas.boxes) if (!pick(id)) { element.remove(); canvas.boxes.delete(id); }
    fill(canvas.layer, mode === 'boxes' ? state.boxes.map(drawBox) : []);
    const marks = mode === 'proof' && now ? now.lines : [];
    if (canvas.marked !== JSON.stringify(marks)) { canvas.marked = JSON.stringify(marks); canvas.marks.replaceChildren(...marks.map(drawMark)); }
    canvas.hint.hidden = mode !== 'boxes' || state.boxes.length > 0;
    renderBar();
  };
  const renderBar = () => {
    const pictures = state.view?.pictures ?? [], read = picture()?.lines.some((line) => line.read !== null);
    canvas.views.hidden = !pictures.length;
    for (const view of canvas.views.children) {
      view.setAttribute('aria-pressed', String(view.dataset.mode === state.mode));
      view.hidden = view.dataset.mode === 'proof' && !read;
    }
    canvas.pages.hidden = pictures.length < 2;
    fill(canvas.pages, pictures.map((one, index) => {
      const page = canvas.pages.children[index] ?? make('button', {type: 'button', onclick: () => { state.page = index; if (state.mode === 'boxes') state.mode = 'picture'; render(); }}, String(index + 1));
      page.setAttribute('aria-label', say('board.page', {number: index + 1}));
      page.setAttribute('aria-pressed', String(index === state.page));
      return page;
    }));
    const tools = canvas.tools;
    tools.undo.disabled = !state.past.length;
    tools.redo.disabled = !state.future.length;
    tools.duplicate.disabled = tools.remove.disabled = !chosen();
    tools.snap.setAttribute('aria-pressed', String(state.snap));
  };

  // Writing on the box itself.
  const write = (id, first = '') => {
    const one = pick(id);
    if (!one || state.mode !== 'boxes') return;
    select(id);
    const element = canvas.boxes.get(id), before = one.text;
    const area = make('input', {class: 'inline', 'aria-label': say('board.text', {number: state.boxes.indexOf(one) + 1}), maxlength: '300', autocomplete: 'off'});
    area.value = first || one.text;
    const put = () => { if (area.value !== one.text) change(() => { one.text = area.value; }, `text-${id}`); };
    const end = (focus) => {
      if (typing !== area) return;
      typing = null;
      area.remove();
      element.classList.remove('is-writing');
      if (focus) element.focus({preventScroll: true});
    };
    area.addEventListener('input', put);
    area.addEventListener('blur', () => end(false));
    area.addEventListener('keydown', (event) => {
      event.stopPropagation();
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) document.dispatchEvent(new KeyboardEvent('keydown', event));
      else if ((event.key === 'Enter' || event.key === 'Escape') && !event.isComposing) {
        event.preventDefault();
        if (event.key === 'Escape' && area.value !== before) { area.value = before; put(); }
        end(true);
      } else history(event);
      if (area.value !== one.text && !event.isComposing && typing) queueMicrotask(() => { if (typing === area && event.defaultPrevented) area.value = pick(id)?.text ?? ''; });
    });
    typing?.blur();
    typing = area;
    element.classList.add('is-writing');
    element.append(area);
    area.focus({preventScroll: true});
    if (first) put(); else area.select();
  };

  const at = (event) => {
    const rect = canvas.paper.getBoundingClientRect();
    return [clamp((event.clientX - rect.left) / rect.width, 0, 1), clamp((event.clientY - rect.top) / rect.height, 0, 1)];
  };
  const press = (event) => {
    if (event.button !== 0 || state.mode !== 'boxes' || drag || event.target.closest('.inline')) return;
    const element = event.target.closest('.box'), side = event.target.dataset.side, start = at(event);
    if (typing) typing.blur();
    const one = element ? pick(element.dataset.id) : null;
    drag = {pointer: event.pointerId, start, x: event.clientX, y: event.clientY, one, edges: side ? HANDLES[side] : null, before: copy(), box: one ? [...one.box] : null, going: false};
    canvas.paper.setPointerCapture(event.pointerId);
    if (one) { event.preventDefault(); select(one.id, true); } else { event.preventDefault(); canvas.paper.focus({preventScroll: true}); select(null); }
  };
  const pull = (event) => {
    if (!drag || event.pointerId !== drag.pointer) return;
    if (!drag.going && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 4) return;
    drag.going = true;
    const [x, y] = at(event), free = event.altKey, {one, start} = drag;
    if (one) {
      one.box = drag.edges ? resized(drag.box, drag.edges, x - start[0], y - start[1], one.id, free) : moved(drag.box, x - start[0], y - start[1], one.id, free);
      drawBox(one);
    } else {
      const corner = [snap([start[0]], 0, '', free).shift + start[0], snap([start[1]], 1, '', free).shift + start[1]].map((side) => clamp(side, 0, 1));
      const seed = [corner[0], corner[1], corner[0], corner[1]], edges = [x >= corner[0] ? 2 : 0, y >= corner[1] ? 3 : 1];
      drag.box = resized(seed, edges, x - corner[0], y - corner[1], '', free);
      const [left, top, right, bottom] = drag.box;
      canvas.ghost.hidden = false;
      Object.assign(canvas.ghost.style, {left: `${left * 100}%`, top: `${top * 100}%`, width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%`});
    }
  };
  const stopDrag = () => {
    if (!drag) return null;
    const done = drag;
    drag = null;
    guide(null, null);
    canvas.ghost.hidden = true;
    return done;
  };
  const release = (event) => {
    if (event.pointerId !== drag?.pointer) return;
    const {one, going, before, box} = stopDrag();
    if (!going) return;
    if (one) { remember(before); publish(); tell(place(one)); }
    else if (box[2] > box[0] && box[3] > box[1]) { const made = insert(box, looks()); if (made) write(made.id); }
  };
  const giveUp = () => {
    const left = stopDrag();
    if (left?.one) { left.one.box = left.box; render(); }
    return Boolean(left);
  };

  const history = (event) => {
    const control = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
    if (!control || event.altKey || (key !== 'z' && key !== 'y')) return false;
    event.preventDefault();
    if (key === 'y' || event.shiftKey) redo(); else undo();
    return true;
  };
  const press_key = (event) => {
    if (event.defaultPrevented || event.target.closest('.inline')) return;
    if (history(event)) return;
    const element = event.target.closest('.box'), one = element ? pick(element.dataset.id) : null, control = event.ctrlKey || event.metaKey;
    if (event.key === 'Escape') {
      if (giveUp() || state.selected) { event.preventDefault(); select(null); canvas.paper.focus({preventScroll: true}); }
      return;
    }
    if (!one || event.isComposing) return;
    if (event.key.startsWith('Arrow') && !control && !event.altKey) nudge(one, event.key, event.shiftKey);
    else if (control && event.key.toLowerCase() === 'd') duplicate(one);
    else if (event.key === 'Delete' || event.key === 'Backspace') remove(one);
    else if (!control && (event.key === 'Enter' || event.key === 'F2')) write(one.id);
    else if (!control && !event.altKey && event.key.length === 1 && event.key !== ' ') write(one.id, event.key);
    else return;
    event.preventDefault();
  };

  // --- the list -------------------------------------------------------------------------------------------------------

  const advice = (one) => {
    const view = state.view;
    return view && view.edit === state.edit ? view.advice[state.boxes.indexOf(one)] ?? '' : list?.rows.get(one.id)?.advice.textContent ?? '';
  };
  const found = (one) => picture()?.lines.find((line) => line.read !== null && line.text === one.text && same(line.box, one.box));
  const makeRow = (one) => {
    const set = (name, value, kind = '') => { const box = pick(one.id); if (box && box[name] !== value) change(() => { box[name] = value; }, kind); };
    const row = {};
    row.text = make('input', {class: 'text', maxlength: '300', autocomplete: 'off', placeholder: say('board.placeholder'), oninput: () => set('text', row.text.value, `text-${one.id}`)});
    row.number = make('span', {class: 'number', 'aria-hidden': 'true'});
    row.dot = make('span', {class: 'dot', 'aria-hidden': 'true'});
    row.mark = make('p', {class: 'read'});
    row.advice = make('p', {class: 'advice'});
    row.colors = make('div', {class: 'swatches', role: 'radiogroup', 'aria-label': say('board.color')},
      ...[{name: '', css: '', zh: ''}, ...colors].map((color) => make('label', {title: naming([color], color.name) || say('board.any_color')},
        make('input', {type: 'radio', name: `color-${one.id}`, value: color.name, 'aria-label': naming([color], color.name) || say('board.any_color'), onchange: () => set('color', color.name)}),
        make('i', {style: color.css ? `background:${color.css}` : null, class: color.css ? null : 'is-any'}))));
    row.other = make('input', {class: 'other', maxlength: '40', placeholder: say('board.other_color'), 'aria-label': say('board.other_color'), oninput: () => set('color', row.other.value.trim(), `color-${one.id}`)});
    row.style = make('select', {'aria-label': say('board.style'), onchange: () => set('style', row.style.value)}, make('option', {value: ''}, say('board.any_style')),
      ...letterings.map((style) => make('option', {value: style.name}, zh() ? `${style.zh}字体` : style.name)));
    row.align = make('div', {class: 'aligns', role: 'group', 'aria-label': say('board.align')},
      ...['left', 'centre', 'right'].map((side) => button(side, () => set('align', side), {'data-align': side}, side === 'right' ? 'right_side' : side)));
    row.detail = make('div', {class: 'detail'}, row.colors, make('div', {class: 'looks'}, row.other, row.style, row.align));
    row.duplicate = button('duplicate', () => duplicate(pick(one.id)), {class: 'tool'});
    row.remove = button('remove', () => { remove(pick(one.id)); list.rows.get(state.selected)?.text.focus(); }, {class: 'tool'});
    row.element = make('li', {class: 'row', 'data-id': one.id}, make('div', {class: 'first'}, row.number, row.text, row.dot, row.duplicate, row.remove), row.mark, row.advice, row.detail);
    row.element.addEventListener('focusin', () => { if (state.selected !== one.id) select(one.id); });
    row.element.addEventListener('keydown', (event) => {
      if (history(event) || event.isComposing) return;
      if (event.target === row.text && event.key === 'Enter' && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        const next = state.boxes[state.boxes.indexOf(pick(one.id)) + 1];
        if (next) list.rows.get(next.id).text.focus(); else add();
      }
    });
    return row;
  };
  const renderRow = (one) => {
    if (!list.rows.has(one.id)) list.rows.set(one.id, makeRow(one));
    const row = list.rows.get(one.id), number = state.boxes.indexOf(one) + 1, line = found(one), selected = state.selected === one.id;
    row.element.className = `row${selected ? ' is-selected' : ''}`;
    row.number.textContent = number;
    row.text.setAttribute('aria-label', say('board.text', {number}));
    if (row.text.value !== one.text) row.text.value = one.text;
    row.dot.style.background = shown(one.color);
    row.dot.hidden = !shown(one.color);
    const told = advice(one);
    if (row.advice.textContent !== told) row.advice.textContent = told;
    row.mark.className = `read${line ? (line.match ? ' is-right' : ' is-wrong') : ''}`;
    row.mark.textContent = line ? (line.match ? say('board.reads_right') : say('board.reads', {read: line.read || say('board.nothing')})) : '';
    for (const input of row.colors.querySelectorAll('input')) input.checked = input.value === one.color;
    const own = colors.some((color) => color.name === one.color) ? '' : one.color;
    if (row.other.value.trim() !== own) row.other.value = own;
    if (one.style && ![...row.style.options].some((option) => option.value === one.style)) row.style.append(make('option', {value: one.style}, one.style));
    row.style.value = one.style;
    for (const align of row.align.children) align.setAttribute('aria-pressed', String(align.dataset.align === one.align));
    row.detail.hidden = !selected;
    return row.element;
  };
  const renderList = () => {
    for (const [id, row] of list.rows) if (!pick(id)) { row.element.remove(); list.rows.delete(id); }
    fill(list.items, state.boxes.map(renderRow));
    list.items.hidden = !state.boxes.length;
    list.more.disabled = state.boxes.length >= most;
  };
  const render = () => {
    if (canvas) renderCanvas();
    if (list) renderList();
  };

  // --- to and from the studio -----------------------------------------------------------------------------------------

  const parse = (text) => {
    try {
      const data = JSON.parse(text);
      return Array.isArray(data.boxes) && data.boxes.every((one) => Array.isArray(one.box) && one.box.length === 4) ? data : null;
    } catch { return null; }
  };
  const take = (data) => {
    state.boxes = data.boxes.slice(0, most).map(({box, text = '', color = '', style = '', align = 'centre'}) => ({box, text, color, style, align, id: `b${counter += 1}`}));
    state.selected = null;
    state.shape = data.shape || state.shape;
  };
  const matches = (one) => one.lines.length === state.boxes.length && one.lines.every((line, index) => line.text === state.boxes[index].text && same(line.box, state.boxes[index].box));
  const look = (text) => {
    let view = null;
    try { view = JSON.parse(text); } catch { return; }
    state.view = view;
    if (view.restored) state.restoring = false;
    else if (!state.restoring) keep();
    if (!state.restoring && view.edit === state.edit) clearTimeout(timer);
    const keys = view.pictures.map((one) => one.key).join(' ');
    if (keys !== state.keys) {
      // Another picture: it is shown where it is of these boxes, or was asked for; who draws on is not disturbed.
      const score = (one) => one.lines.filter((line) => line.match).length, best = Math.max(...view.pictures.map(score));
      state.keys = keys;
      state.page = Math.max(0, view.pictures.findIndex((one) => (view.working ? !one.done : score(one) === best)));
      const now = picture();
      if (!now) state.mode = 'boxes';
      else if (!drag && !typing && (view.chosen || matches(now))) state.mode = now.lines.some((line) => line.read !== null) ? 'proof' : 'picture';
    }
    render();
  };

  window.atelier.board = {
    list(element, props, trigger, watch) {
      const items = make('ol', {class: 'rows', 'aria-label': say('board.list')});
      const more = make('button', {type: 'button', class: 'more', onclick: add}, icon('add'), say('board.add'));
      element.replaceChildren(items, more);
      list = {element, props, trigger, items, more, rows: new Map()};
      const given = parse(props.value), draft = (() => { try { return parse(localStorage.getItem(DRAFT)); } catch { return null; } })();
      if (!state.boxes.length && draft) take(draft);
      if (given?.boxes.length) { if (state.boxes.length) remember(copy()); take(given); }
      watch('value', () => {
        const data = parse(props.value);
        if (!data || props.value === told) return;
        remember(copy());
        state.restoring = false;
        take(data);
        publish();
      });
      state.edit += 1;
      send();
      render();
    },
    canvas(element, props, watch) {
      const paper = make('div', {class: 'paper', tabindex: '-1', role: 'group', 'aria-label': say('board.canvas')});
      const parts = {
        under: make('img', {class: 'under', alt: '', hidden: true, draggable: 'false'}), lines: make('div', {class: 'lines'}), layer: make('div', {class: 'layer'}),
        marks: make('div', {class: 'layer'}), ghost: make('div', {class: 'ghost', hidden: true}), across: make('div', {class: 'guide is-across', hidden: true}),
        down: make('div', {class: 'guide is-down', hidden: true}), hint: make('p', {class: 'hint'}, say('board.hint')),
      };
      paper.append(parts.under, parts.lines, parts.hint, parts.layer, parts.marks, parts.ghost, parts.across, parts.down);
      const stage = make('div', {class: 'board-stage'}, paper);
      const views = make('div', {class: 'views', role: 'group', 'aria-label': say('board.view')}, ...['boxes', 'proof', 'picture'].map((mode) =>
        make('button', {type: 'button', 'data-mode': mode, onclick: () => { state.mode = mode; render(); }}, say(`board.view.${mode}`))));
      const pages = make('div', {class: 'pages', role: 'group', 'aria-label': say('board.pages')});
      const tools = {
        add: button('add', add), undo: button('undo', undo), redo: button('redo', redo), duplicate: button('duplicate', () => duplicate()),
        remove: button('remove', () => remove()), snap: button('snap', () => { state.snap = !state.snap; render(); }),
      };
      const live = make('p', {class: 'live', 'aria-live': 'polite'});
      element.replaceChildren(make('div', {class: 'board'}, stage, make('div', {class: 'board-bar'}, views, pages, make('div', {class: 'tools', role: 'toolbar', 'aria-label': say('board.tools')}, ...Object.values(tools))), live));
      canvas = {element, paper, stage, views, pages, tools, live, boxes: new Map(), marked: '', ...parts};
      paper.addEventListener('pointerdown', press);
      paper.addEventListener('pointermove', pull);
      paper.addEventListener('pointerup', release);
      paper.addEventListener('pointercancel', giveUp);
      element.addEventListener('keydown', press_key);
      new ResizeObserver(() => { if (!drag && canvas.paper === paper) renderCanvas(); }).observe(paper);
      watch('value', () => look(props.value));
      look(props.value);
    },
  };
}
