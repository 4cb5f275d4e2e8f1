// What happens now: server-sent events, one a second, shown.
"use strict";

const page = document.getElementById("live");
const part = (name) => page.querySelector(`[data-live="${name}"]`);
const SECONDS = 60;
const MOST_ROWS = 15;
const AGAIN_MS = 2000;
const number = new Intl.NumberFormat(document.documentElement.lang);

let history = []; // hits of the last seconds, the latest last
let moments = []; // the paths of those that were listened to
let source = null;

function say(state) {
  part("login").hidden = state !== "refused";
  part("state").textContent = part("state").dataset[state];
}

function listen() {
  source = new EventSource(page.dataset.events);
  source.addEventListener("open", () => say("on"));
  source.addEventListener("error", failed);
  source.addEventListener("message", (message) => told(JSON.parse(message.data)));
}

// A browser tries again by itself when a stream breaks, but never after an answer that is none: a server or a proxy that
// is starting, a login that has ended.
async function failed() {
  const closed = source;
  if (closed.readyState !== EventSource.CLOSED) {
    say("waiting");
    return;
  }
  const refused = await isRefused();
  if (source !== closed) return; // paused meanwhile
  say(refused ? "refused" : "waiting");
  setTimeout(() => source === closed && listen(), AGAIN_MS);
}

// Of why there is no stream, an EventSource tells nothing.
async function isRefused() {
  const asking = new AbortController();
  try {
    const { status } = await fetch(page.dataset.events, { signal: asking.signal });
    return status === 401 || status === 403;
  } catch {
    return false;
  } finally {
    asking.abort();
  }
}

function told(event) {
  if (event.away) {
    say("away");
    return;
  }
  say("on");
  if (event.history) {
    history = event.history;
  } else {
    history = [...history, event.hits].slice(-SECONDS);
  }
  const at = Date.parse(event.at);
  const young = moments.filter((moment) => moment.at < at && moment.at > at - 1000 * SECONDS);
  moments = [...young, { at, paths: event.paths }];
  show(event);
}

function show(event) {
  part("now").textContent = number.format(event.hits);
  part("minute").textContent = number.format(history.reduce((sum, hits) => sum + hits, 0));
  draw();
  list();
  showLoadTest(event.loadtest);
}

// The least of 1, 2, 5, 10, 20, 50 and so on that is not exceeded.
function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most);
}

function draw() {
  const most = Math.max(...history);
  const top = most ? ceiling(most) : 1;
  part("top").textContent = number.format(top);
  const first = SECONDS - history.length;
  part("bars").setAttribute(
    "d",
    history
      .map((hits, n) => (hits ? `M${first + n + 0.1} 100V${100 - (100 * hits) / top}h.8V100Z` : ""))
      .join(""),
  );
}

function list() {
  const sums = new Map();
  for (const { paths } of moments) {
    for (const { path, shown, count } of paths) {
      sums.set(path, { path, shown, count: (sums.get(path)?.count ?? 0) + count });
    }
  }
  const rows = [...sums.values()].sort((a, b) => b.count - a.count || (a.path < b.path ? -1 : 1)).slice(0, MOST_ROWS);
  part("quiet").hidden = rows.length > 0;
  const body = part("paths");
  const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  body.replaceChildren(...rows.map((one) => row(one, rows[0].count)));
  if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

function row({ path, shown, count }, most) {
  const link = document.createElement("a");
  link.href = `${page.dataset.path}?${new URLSearchParams({ path })}`;
  const name = document.createElement("bdi");
  name.textContent = shown;
  link.append(name);
  const head = document.createElement("th");
  head.scope = "row";
  head.append(bar((100 * count) / most), link);
  const figure = document.createElement("td");
  figure.textContent = number.format(count);
  const line = document.createElement("tr");
  line.append(head, figure);
  return line;
}

function bar(percent) {
  const space = "http://www.w3.org/2000/svg";
  const drawn = document.createElementNS(space, "svg");
  const rectangle = document.createElementNS(space, "rect");
  drawn.setAttribute("class", "bar");
  drawn.setAttribute("aria-hidden", "true");
  drawn.setAttribute("width", "100%");
  drawn.setAttribute("height", "100%");
  rectangle.setAttribute("width", `${percent}%`);
  rectangle.setAttribute("height", "100%");
  drawn.append(rectangle);
  return drawn;
}

function showLoadTest(test) {
  part("loadtest").hidden = !test;
  if (!test) return;
  part("loadtest-link").href = `${part("loadtest").dataset.page}${test.id}/`;
  part("progress").max = test.requested;
  part("progress").value = test.ended;
  part("ended").textContent = `${number.format(test.ended)} / ${number.format(test.requested)}`;
}

const pause = part("pause");
pause.addEventListener("click", () => {
  if (source) {
    source.close();
    source = null;
    say("on");
  } else {
    listen();
  }
  [pause.textContent, pause.dataset.other] = [pause.dataset.other, pause.textContent];
});
page.hidden = false;
say("waiting");
listen();
// So that a page that is left, and kept by the browser, does not go on listening.
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => event.persisted && source && listen());
