// Masks painted on pictures, the slider between before and after, and pictures that are dropped, pasted or dragged in.
// Listens at the document: the markup comes and goes. What it has to say goes up as the event 'say' or 'bring'.
{
  const svgns = 'http://www.w3.org/2000/svg';
  const say = (element, detail) => element.dispatchEvent(new CustomEvent('say', {bubbles: true, detail}));

  // --- the brush ---------------------------------------------------------------------------------------------------
  let stroke = null;
  const board = (element) => element.closest?.('.paintable');
  const width = (paintable) => Number(paintable.querySelector('.width').value);
  const erases = (paintable) => paintable.querySelector('[data-brush="erase"]').getAttribute('aria-pressed') === 'true';
  const place = (svg, event) => {
    const box = svg.getBoundingClientRect();
    const scale = 1000 / box.width;
    return [Math.round((event.clientX - box.left) * scale), Math.round((event.clientY - box.top) * scale)];
  };
  const hover = (svg, [x, y]) => {
    const brush = svg.querySelector('.brush');
    brush.setAttribute('cx', x);
    brush.setAttribute('cy', y);
    brush.setAttribute('r', width(board(svg)) / 2);
    svg.dataset.at = `${x} ${y}`;
  };
  const at = (svg) => svg.dataset.at?.split(' ').map(Number) ?? [500, svg.viewBox.baseVal.height / 2];
  const begin = (svg, [x, y]) => {
    const paintable = board(svg);
    const line = document.createElementNS(svgns, 'polyline');
    line.setAttribute('points', `${x},${y} ${x},${y}`);
    line.setAttribute('stroke-width', width(paintable));
    line.setAttribute('stroke', erases(paintable) ? 'black' : 'white');
    svg.querySelector('.strokes').append(line);
    return line;
  };
  const extend = (svg, line, [x, y]) => {
    const [lastX, lastY] = line.getAttribute('points').split(/[ ,]+/).slice(-2).map(Number);
    if (Math.hypot(x - lastX, y - lastY) < 4) return;
    line.setAttribute('points', `${line.getAttribute('points')} ${x},${y}`);
    // What the page shows anew meanwhile knows nothing of this stroke.
    if (!line.isConnected) svg.querySelector('.strokes').append(line);
  };
  // For a moment after it told its strokes the browser knows better than what the page shows anew.
  const told = {of: '', strokes: '', until: 0};
  const remember = (paintable) => Object.assign(told, {
    of: paintable.querySelector('img').src,
    strokes: paintable.querySelector('.strokes').innerHTML,
    until: performance.now() + 2000,
  });
  const insist = () => {
    if (stroke || performance.now() > told.until) return;
    const paintable = document.querySelector('.paintable');
    const group = paintable?.querySelector('.strokes');
    if (group && paintable.querySelector('img').src === told.of && group.innerHTML !== told.strokes) group.innerHTML = told.strokes;
  };
  addEventListener('DOMContentLoaded', () => {
    new MutationObserver(insist).observe(document.body, {subtree: true, childList: true, attributeFilter: ['points']});
  });
  const write = (strokes) => {
    const area = document.querySelector('#edit-strokes textarea, #edit-strokes input');
    area.value = strokes;
    area.dispatchEvent(new Event('input', {bubbles: true}));
  };
  const tell = (paintable) => {
    remember(paintable);
    const lines = [...paintable.querySelectorAll('.strokes polyline')].map((line) => [
      line.getAttribute('stroke') === 'black' ? 1 : 0,
      Number(line.getAttribute('stroke-width')),
      ...line.getAttribute('points').split(/[ ,]+/).map(Number),
    ]);
    write(JSON.stringify(lines));
  };
  const undo = (paintable) => { paintable.querySelector('.strokes').lastElementChild?.remove(); tell(paintable); };
  const wipe = (paintable) => {
    paintable.querySelectorAll('mask image, mask polyline').forEach((one) => one.remove());
    remember(paintable);
    write('null');
  };

  document.addEventListener('pointerdown', (event) => {
    const svg = event.target.closest?.('.paintable svg');
    if (!svg || event.button !== 0) return;
    event.preventDefault();
    svg.focus({preventScroll: true});
    svg.setPointerCapture(event.pointerId);
    hover(svg, place(svg, event));
    stroke = {svg, line: begin(svg, place(svg, event))};
  });
  document.addEventListener('pointermove', (event) => {
    const svg = stroke?.svg ?? event.target.closest?.('.paintable svg');
    if (!svg) return;
    hover(svg, place(svg, event));
    if (stroke) for (const one of event.getCoalescedEvents?.() ?? [event]) extend(svg, stroke.line, place(svg, one));
  });
  for (const kind of ['pointerup', 'pointercancel']) {
    document.addEventListener(kind, () => {
      if (!stroke) return;
      const {svg} = stroke;
      stroke = null;
      tell(board(svg));
    });
  }
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('[data-brush]');
    if (!button) return;
    const paintable = board(button);
    if (button.dataset.brush === 'erase') button.setAttribute('aria-pressed', String(!erases(paintable)));
    if (button.dataset.brush === 'undo') undo(paintable);
    if (button.dataset.brush === 'wipe') wipe(paintable);
  });
  const ways = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  document.addEventListener('keydown', (event) => {
    const svg = event.target.closest?.('.paintable svg');
    if (!svg || event.ctrlKey || event.altKey || event.metaKey) return;
    const paintable = board(svg);
    const step = width(paintable) / 3;
    const from = at(svg);
    if (ways[event.key]) {
      const [x, y] = ways[event.key].map((way, axis) => Math.round(from[axis] + way * step));
      const to = [Math.min(1000, Math.max(0, x)), Math.min(svg.viewBox.baseVal.height, Math.max(0, y))];
      hover(svg, to);
      if (event.shiftKey) { extend(svg, begin(svg, from), to); tell(paintable); }
    } else if (event.key === ' ') {
      hover(svg, from);
      begin(svg, from);
      tell(paintable);
    } else if (event.key === 'Backspace') {
      undo(paintable);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);

  // --- words of a preset: written into the text, its first blank chosen to be typed over ----------------------------
  document.addEventListener('click', (event) => {
    const {say: words, into} = event.target.closest?.('[data-say]')?.dataset ?? {};
    const area = into && document.querySelector(`${into} textarea`);
    if (!area) return;
    area.value = words;
    area.dispatchEvent(new Event('input', {bubbles: true}));
    area.focus();
    const blank = words.indexOf('…');
    if (blank >= 0) area.setSelectionRange(blank, blank + 1);
  });

  // --- the lights behind a prompt follow its text ------------------------------------------------------------------
  document.addEventListener('scroll', (event) => {
    event.target.closest?.('.scene')?.style.setProperty('--scrolled', event.target.scrollTop);
  }, true);

  // --- before and after --------------------------------------------------------------------------------------------
  document.addEventListener('input', (event) => {
    const slider = event.target.closest?.('.compare input');
    // Not on the markup itself, which is written anew.
    slider?.closest('.easel-part').style.setProperty('--cut', `${slider.value}%`);
  });

  // --- pictures that come in ---------------------------------------------------------------------------------------
  const inSight = (selector) => [...document.querySelectorAll(selector)].find((one) => one.checkVisibility());
  const bring = (element, slot, files) =>
    element.dispatchEvent(new CustomEvent('bring', {bubbles: true, detail: {slot, files: [...files]}}));
  const KEY = 'text/x-atelier-key';
  document.addEventListener('dragstart', (event) => {
    const key = event.target.closest?.('[data-act="choose"]')?.dataset.key;
    if (key) event.dataTransfer.setData(KEY, key);
  });
  for (const kind of ['dragover', 'dragleave', 'drop']) {
    document.addEventListener(kind, (event) => {
      const target = event.target.closest?.('[data-take]');
      document.querySelectorAll('.is-over').forEach((one) => one !== target && one.classList.remove('is-over'));
      if (!target) return;
      event.preventDefault();
      target.classList.toggle('is-over', kind === 'dragover');
      if (kind !== 'drop') return;
      const key = event.dataTransfer.getData(KEY);
      if (key) say(target, {act: `drag.${target.dataset.take}`, key});
      else if (event.dataTransfer.files.length) bring(target, target.dataset.take, event.dataTransfer.files);
    });
  }
  document.addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith('image/'));
    const target = files.length && (inSight('.slot.is-empty[data-take]') ?? inSight('.slot[data-take]'));
    if (!target) return;
    event.preventDefault();
    bring(target, target.dataset.take, files);
  });
}
