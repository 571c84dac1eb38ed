"""What the page of an explanation does: it unpacks a unit's values, colours the steps that can be seen, and says what a
step holds. What it shows of the user's goes in as text, never as HTML."""

from elman.page import START

SCRIPT = (
    START
    + r"""
const text = get("text"), COUNT = DATA.steps.length, NAMES = new Map(DATA.names);
const written = raw => NAMES.has(raw) ? NAMES.get(raw)[0] : raw;
const spoken = raw => NAMES.has(raw) ? NAMES.get(raw)[1] : raw;
const fixed = (value, digits) => {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(size) ? "−" : "") + size;
};
const whole = value => value.toLocaleString("en-US");

// Unpacking.
const unpack = async packed => {
  const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
};
const series = async ([low, high, packed], bits) => {
  const buffer = await unpack(packed), codes = bits > 8 ? new Uint16Array(buffer) : new Uint8Array(buffer);
  const unit = (high - low) / (2 ** bits - 2), value = code => code ? low + (code - 1) * unit : NaN;
  return {codes, value, most: Math.max(Math.abs(low), Math.abs(high)), at: i => value(codes[i]),
    digits: unit > 0 ? Math.min(12, Math.max(0, Math.round(-Math.log10(unit / 2)))) : 3};
};
const typical = ({codes, value, most}) => {  // 99 % of the values are not farther from zero
  const counts = new Map();
  for (const code of codes) if (code) counts.set(code, (counts.get(code) || 0) + 1);
  let left = .99 * codes.length;
  for (const code of [...counts.keys()].sort((a, b) => Math.abs(value(a)) - Math.abs(value(b))))
    if ((left -= counts.get(code)) <= 0) return Math.abs(value(code)) || most;
  return most;
};
const predictions = async ({words, most, chances, width, codes, numbers}) => {
  const [which, given] = await Promise.all([unpack(codes), unpack(numbers)]);
  const index = width > 2 ? new Uint32Array(which) : new Uint16Array(which);
  const number = chances ? new Uint16Array(given) : new Float32Array(given);
  const one = k => ({word: words[index[k] - 1], number: chances ? (number[k] / 1023) ** 2 : number[k]});
  return i => Array.from({length: most}, (_, rank) => i * most + rank).filter(k => index[k]).map(one);
};

// Colours.
let now = null, at = 0, losses = null, guesses = null, ticket = 0;
const scale = () => now.gate ? 1 : get("same").checked ? now.bound : now.typical;
const tint = value => {
  if (!Number.isFinite(value)) return "missing";
  const level = Math.round(DATA.levels * Math.max(-1, Math.min(1, value / (scale() || 1))));
  return level ? (now.gate ? "gate" : level > 0 ? "up" : "down") + Math.abs(level) : "";
};

// The steps, in blocks that become elements when they come near, and are coloured while they are.
const blocks = [...text.querySelectorAll(".block")], cells = text.classList.contains("cells"), near = new Set();
const from = blocks.map(block => Number(block.dataset.from));
const blockOf = i => {
  let low = 0, high = blocks.length;
  while (high - low > 1) {
    const between = (low + high) >> 1;
    if (from[between] <= i) low = between; else high = between;
  }
  return low;
};
const build = b => {
  if (blocks[b].steps) return;
  const end = b + 1 < blocks.length ? from[b + 1] : COUNT, made = [];
  blocks[b].replaceChildren();
  for (let i = from[b]; i < end; i++) {
    const step = document.createElement("span"), raw = DATA.steps[i];
    if (cells) { node(step, "small", written(raw)); node(step, "b"); }
    else step.textContent = written(raw);
    if (raw === "\n") step.dataset.break = "";
    step.at = i;
    made.push(step);
    blocks[b].append(...(made.length > 1 && text.classList.contains("word") ? [" ", step] : [step]));
  }
  blocks[b].steps = made;
};
const colour = b => {
  build(b);
  if (!now || blocks[b].shown === now.key()) return;
  for (const step of blocks[b].steps) {
    const value = now.at(step.at), kind = tint(value);
    if (step.className !== kind) step.className = kind;
    if (cells) step.lastChild.textContent = fixed(value, now.digits);
  }
  blocks[b].shown = now.key();
  if (blockOf(at) === b) mark();
};
const element = i => {
  const b = blockOf(i);
  build(b);
  return blocks[b].steps[i - from[b]];
};
const mark = () => {
  for (const step of text.querySelectorAll("[data-at]")) step.removeAttribute("data-at");
  element(at).dataset.at = "";
};
const watch = new IntersectionObserver(found => {
  for (const {target, isIntersecting} of found) {
    const b = blocks.indexOf(target);
    if (isIntersecting) { near.add(b); colour(b); } else near.delete(b);
  }
}, {root: text, rootMargin: "400px 0px"});

// All steps at a glance: at each place the mean, and paler the highest and the lowest value.
const draw = () => {
  if (!now) return;
  const canvas = get("wave").querySelector("canvas"), ratio = window.devicePixelRatio || 1;
  const width = canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement), full = scale() || 1;
  const [up, down, gate] = ["up", "down", "gate"].map(name => `rgb(${style.getPropertyValue("--" + name)})`);
  const y = value => now.gate ? height * (1 - value) : height / 2 * (1 - value / full);
  const bar = (x, value, alpha) => {
    pen.globalAlpha = alpha;
    pen.fillStyle = now.gate ? gate : value > 0 ? up : down;
    pen.fillRect(x, Math.min(y(0), y(value)), 1, Math.max(1, Math.abs(y(value) - y(0))));
  };
  for (let x = 0; x < width; x++) {
    const first = Math.floor(x * COUNT / width), last = Math.max(first + 1, Math.floor((x + 1) * COUNT / width));
    let low = 0, high = 0, sum = 0;
    for (let i = first; i < last; i++) {
      const value = now.at(i) || 0;
      low = Math.min(low, value);
      high = Math.max(high, value);
      sum += value;
    }
    if (low < 0) bar(x, low, .35);
    if (high > 0) bar(x, high, .35);
    bar(x, sum / (last - first), 1);
  }
};

// One step.
const name = i => `${DATA.step} ${whole(i + 1)} of ${whole(COUNT)}`;
const percent = p => p >= .1 ? `${Math.round(100 * p)} %` : p >= .001 ? `${(100 * p).toFixed(1)} %` : "<0.1 %";
const likely = i => guesses ? guesses(i) : [];
const rounded = number => number.toLocaleString("en-US", {maximumSignificantDigits: 6}).replace("-", "−");
const share = number => DATA.guesses.chances ? percent(number) : rounded(number);
const about = i => {
  const parts = [name(i), spoken(DATA.steps[i])];
  if (now) parts.push(`${now.label} ${fixed(now.at(i), now.digits)}`);
  if (losses && Number.isFinite(losses.at(i))) parts.push(`loss ${fixed(losses.at(i), 2)}`);
  const found = likely(i).map(({word, number}) => `${spoken(word)} ${share(number)}`);
  return parts.join(", ") + (found.length ? "; predicted: " + found.join(", ") : "");
};
const show = (i, aloud) => {
  at = Math.max(0, Math.min(COUNT - 1, i));
  mark();
  get("place").textContent = name(at);
  get("stands").textContent = spoken(DATA.steps[at]);
  get("label").textContent = now ? now.label : "";
  get("value").textContent = now ? fixed(now.at(at), now.digits) : "";
  if (get("loss")) get("loss").textContent = losses ? fixed(losses.at(at), 2) : "";
  if (get("guesses")) {
    const list = get("guesses"), next = at + 1 < COUNT && DATA.next ? DATA.steps[at + 1] : undefined;
    list.replaceChildren();
    for (const {word, number} of likely(at)) {
      const item = node(list, "li", "", word === next ? "came" : "");
      const said = node(item, "span", spoken(word));
      said.dir = "auto";
      if (word === next) node(said, "small", " ✓ came");
      node(item, "i").style.setProperty("--share", `${100 * number}%`);
      node(item, "b", share(number));
    }
  }
  get("wave").querySelector("i").style.left = `${100 * (at + .5) / COUNT}%`;
  get("wave").setAttribute("aria-valuenow", at + 1);
  get("wave").setAttribute("aria-valuetext", about(at));
  if (aloud) get("heard").textContent = about(at);
};
const reveal = middle => {
  const step = element(at), box = text.getBoundingClientRect(), place = step.getBoundingClientRect();
  const above = place.top - box.top - 30, below = place.bottom - box.bottom + 30;
  if (middle && (above < 0 || below > 0)) text.scrollTop += place.top - box.top - box.height / 2;
  else if (above < 0) text.scrollTop += above;
  else if (below > 0) text.scrollTop += below;
};
const to = (i, middle, aloud) => {
  show(i, aloud);
  reveal(middle);
  requestAnimationFrame(() => reveal(middle));  // blocks that came near have their true height now
};

// One unit.
const same = (item, layer, quantity, unit) =>
  item.layer === layer && item.quantity === quantity && item.unit === unit;
const nearest = (units, wanted) => units.reduce((best, unit) =>
  Math.abs(unit - wanted) < Math.abs(best - wanted) ? unit : best);
const choose = async (layer, quantity, wanted) => {
  const mine = ++ticket, found = DATA.layers[layer], held = found.values.filter(each => each.order.length);
  const chosen = held.find(each => each.name === quantity) || held[0];
  const unit = nearest(chosen.order, wanted), values = await series(chosen.units[unit], DATA.bits);
  if (mine !== ticket) return;
  const {name: quantityName, gate, bound, order, shown: label} = chosen;
  now = {...values, typical: typical(values), layer, quantity: quantityName, unit, gate, bound, order, label,
    key: () => `${layer} ${quantityName} ${unit} ${scale()}`};
  tell(found, held, chosen, wanted);
  repaint();
};
const tell = (found, held, chosen, wanted) => {
  get("layer").value = now.layer;
  get("quantity").replaceChildren();
  for (const each of held) node(get("quantity"), "option", each.shown).value = each.name;
  get("quantity").value = chosen.name;
  get("unit").value = now.unit;
  const here = now.order.length < found.count ? `${whole(now.order.length)} of ${whole(found.count)} here` : "";
  get("count").textContent = here || `of ${whole(found.count)}`;
  get("what").textContent = chosen.about;
  const tracks = DATA.tracked.filter(item => item.layer === now.layer && item.unit === now.unit);
  const list = tracks.map(item => `${item.feature} (${item.shown}, r ${fixed(item.r, 2)})`).join("; ");
  const instead = wanted === now.unit ? "" : `Unit ${wanted} is not held here; this is the nearest that is. `;
  get("tracks").textContent = instead + (list ? `Unit ${now.unit} tracks: ${list}.` :
    DATA.tracked.length ? `No feature is listed for unit ${now.unit}.` : "");
  for (const button of get("ranked").querySelectorAll("[data-k]"))
    button.setAttribute("aria-pressed", same(DATA.tracked[button.dataset.k], now.layer, now.quantity, now.unit));
};
const repaint = () => {
  const legend = get("legend"), full = scale(), digits = Math.max(now.digits, full < 1 ? 2 : 1);
  legend.classList.toggle("gate", now.gate);
  const [below, above] = full < now.most ? ["≤ ", "≥ "] : ["", ""];
  const ends = now.gate ? ["0 shut", "", "1 open"] : [below + fixed(-full, digits), "0", above + fixed(full, digits)];
  legend.querySelectorAll("span").forEach((end, k) => { end.textContent = ends[k]; });
  get("same").disabled = now.gate;
  for (const b of near) colour(b);
  draw();
  show(at);
  text.setAttribute("aria-busy", "false");
};
const step = by => {
  const place = now.order.indexOf(now.unit) + by;
  choose(now.layer, now.quantity, now.order[(place + now.order.length) % now.order.length]);
};
const typed = () => {
  const wanted = Number.parseInt(get("unit").value, 10);
  choose(now.layer, now.quantity, Number.isFinite(wanted) ? wanted : now.unit);
};

// What the reader does.
get("layer").addEventListener("change", () => choose(Number(get("layer").value), now.quantity, now.unit));
get("quantity").addEventListener("change", () => choose(now.layer, get("quantity").value, now.unit));
get("unit").addEventListener("change", typed);
get("unit").addEventListener("keydown", event => {
  const by = {ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10}[event.key];
  if (by) { event.preventDefault(); step(by); }
});
get("previous").addEventListener("click", () => step(-1));
get("next").addEventListener("click", () => step(1));
get("same").addEventListener("change", () => repaint());
get("ranked").addEventListener("click", event => {
  const button = event.target.closest("[data-k]"), item = button && DATA.tracked[button.dataset.k];
  if (item) choose(item.layer, item.quantity, item.unit);
});
if (get("feature")) get("feature").addEventListener("change", () => {
  const wanted = get("feature").value;
  for (const button of get("ranked").querySelectorAll("[data-k]"))
    button.parentNode.hidden = wanted !== "" && DATA.tracked[button.dataset.k].feature !== wanted;
});
const under = event => event.target.closest("#text .block > span");
for (const kind of ["pointermove", "pointerdown"]) text.addEventListener(kind, event => {
  const step = under(event);
  if (step && step.at !== at) show(step.at);
});
const keys = (event, page) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return undefined;
  return {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: COUNT - 1, ...page}[event.key];
};
text.addEventListener("keydown", event => {
  const wanted = keys(event, {});
  if (wanted !== undefined) { event.preventDefault(); to(wanted, false, true); }
});
const tenth = Math.max(1, Math.round(COUNT / 20));
get("wave").addEventListener("keydown", event => {
  const wanted = keys(event, {ArrowDown: at - 1, ArrowUp: at + 1, PageDown: at + tenth, PageUp: at - tenth});
  if (wanted !== undefined) { event.preventDefault(); to(wanted, true, false); }
});
for (const kind of ["pointermove", "pointerdown"]) get("wave").addEventListener(kind, event => {
  if (kind === "pointermove" && !event.buttons) return;
  const box = get("wave").getBoundingClientRect();
  to(Math.floor((event.clientX - box.left) / box.width * COUNT), true, false);
});

// Definitions: within the window, and shut by Escape.
const fit = term => {
  const tip = term.querySelector(".tip");
  term.classList.remove("shut");
  tip.style.translate = "";
  const box = tip.getBoundingClientRect(), over = box.right - document.documentElement.clientWidth + 10;
  if (over > 0) tip.style.translate = `${-Math.min(over, box.left - 10)}px`;
};
for (const term of document.querySelectorAll(".term")) {
  for (const kind of ["pointerenter", "focusin"]) term.addEventListener(kind, () => fit(term));
}
document.addEventListener("keydown", event => {
  if (event.key === "Escape") for (const term of document.querySelectorAll(".term")) term.classList.add("shut");
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(draw).observe(get("wave"));

const strongest = () => {  // what moved the prediction may be far down in its text
  const read = document.querySelector(".read"), level = item => Number(item.className.replace(/\D/g, ""));
  if (!read || !read.children.length) return;
  const most = [...read.children].reduce((best, item) => level(item) > level(best) ? item : best);
  read.scrollTop = most.offsetTop - read.offsetTop - read.clientHeight / 2;
};

const begin = async () => {
  strongest();
  for (const part of document.querySelectorAll("[data-live]")) part.hidden = false;
  if (!("DecompressionStream" in window)) {
    get("tracks").textContent = "This browser is too old to unpack the values: any one from 2023 on can.";
    return;
  }
  for (const block of blocks) watch.observe(block);
  await choose(...DATA.first);
  if (DATA.losses) losses = await series(DATA.losses, DATA.fine);
  if (DATA.guesses) get("guesses").classList.toggle("values", !DATA.guesses.chances);
  if (DATA.guesses) guesses = await predictions(DATA.guesses);
  show(at);
  document.documentElement.dataset.ready = "";
};
begin();
"""
)
