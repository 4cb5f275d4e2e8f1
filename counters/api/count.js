// Counts the views of the page that loads this.
(() => {
  const script = document.currentScript, nav = navigator;
  if (!script || !nav.sendBeacon || nav.globalPrivacyControl || nav.doNotTrack == 1) return;
  let last;

  const view = (event) => {
    const path = location.pathname, page = location.origin + path;
    if (event?.persisted) last = "";
    if (document.prerendering || page == last || !/^http/.test(page)) return;
    const told = [(script.dataset.prefix || "") + path, last || document.referrer.split("?")[0]];
    last = page;
    try {
      const [to, from] = told.map(encodeURIComponent);
      nav.sendBeacon(new URL(`pixel.gif?path=${to}&referrer=${from}`, script.src));
    } catch {}
  };

  for (const name of ["pushState", "replaceState"]) {
    const change = history[name];
    history[name] = (...to) => (change.apply(history, to), view());
  }
  for (const name of ["popstate", "pageshow", "prerenderingchange"]) addEventListener(name, view, true);
  view();
})();
