// Counts the views of the page that loads this.
(() => {
  const nav = navigator, web = /^http/, { src, dataset } = document.currentScript || {};
  // A copy of this within the page has no address to send to, and a file on somebody's disk is no page to be counted.
  if (!web.test(src) || !web.test(location) || nav.globalPrivacyControl || nav.doNotTrack == 1) return;

  const pixel = new URL("pixel.gif", src), prefix = dataset.prefix || "", mark = pixel + prefix;
  // A page may load this twice, from its template and by a tag manager.
  if (window[mark]) return;
  window[mark] = true;

  let last;
  const view = async (event) => {
    const path = location.pathname, page = location.origin + path;
    if (event?.persisted) last = "";
    if (document.prerendering || page == last) return;
    // Where visitors come from is other sites: pages of this one lead to each other all the time.
    const from = document.referrer, own = last || from.startsWith(location.origin + "/");
    const referrer = own ? "" : from.split("?")[0];
    last = page;
    pixel.search = new URLSearchParams({ path: prefix + path, referrer });
    try {
      // A browser with too much to send takes no beacon. The page hears nothing of what becomes of either.
      nav.sendBeacon(pixel) || await fetch(pixel, { method: "POST", keepalive: true, mode: "no-cors" });
    } catch {}
  };

  for (const name of ["pushState", "replaceState"]) {
    const change = history[name];
    history[name] = (...to) => { change.apply(history, to); view(); };
  }
  for (const name of ["popstate", "pageshow", "prerenderingchange"]) addEventListener(name, view, true);
  view();
})();
