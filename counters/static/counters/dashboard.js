// What pages can do beyond what they say: none of it is needed to read them.
"use strict";

// The reader's time zone, where the address names none: kept for the next pages, and this one loaded again with it.
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const asked = new URLSearchParams(location.search).has("tz");
  const page = document.documentElement.dataset.zone;
  if (!page || asked || !zone || zone === page) return;
  const kept = `hitcounter_tz=${encodeURIComponent(zone)}`;
  if (document.cookie.includes(kept)) return; // the service does not know this zone
  document.cookie = `${kept};path=/;max-age=31536000;samesite=lax`;
  if (document.cookie.includes(kept)) location.reload();
})();

// A choice is made when it is chosen.
for (const select of document.querySelectorAll(".picker select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}

// Countries by their names.
{
  const names = new Intl.DisplayNames([document.documentElement.lang], { type: "region", fallback: "code" });
  for (const country of document.querySelectorAll("[data-country]")) {
    try {
      country.textContent = names.of(country.dataset.country);
    } catch {
      // Not a code of a region: it stays as it is.
    }
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code); // where the browser allows no more, it is ready to be copied
    }
  });
}

// The exact figures of the bar that is pointed at, or gone to with the arrow keys.
for (const chart of document.querySelectorAll("[data-chart]")) {
  const plot = chart.querySelector(".plot");
  const guide = chart.querySelector(".guide");
  const rows = [...chart.querySelectorAll("tbody tr")];
  const heads = [...chart.querySelectorAll("thead th")].map((head) => head.textContent);
  const output = chart.querySelector("output");
  let at = -1;

  const show = (bar) => {
    at = Math.max(0, Math.min(rows.length - 1, bar));
    const [time, ...figures] = [...rows[at].cells].map((cell) => cell.textContent);
    output.textContent = [time, ...figures.map((figure, n) => `${heads[n + 1]} ${figure}`)].join(" · ");
    guide.setAttribute("x", at);
    guide.removeAttribute("hidden");
  };
  const leave = () => {
    guide.setAttribute("hidden", "");
    output.textContent = "";
    at = -1;
  };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    show(Math.floor(((event.clientX - box.left) / box.width) * rows.length));
  });
  plot.addEventListener("pointerleave", leave);
  plot.setAttribute("tabindex", "0");
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}

// What goes on is looked at again each second, until it is over.
{
  const again = async () => {
    const run = document.querySelector("[data-again]");
    if (!run) return;
    try {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      run.replaceWith(page.getElementById(run.id) ?? run);
    } catch {
      // The service is away for a moment.
    }
    setTimeout(again, 1000);
  };
  setTimeout(again, 1000);
}
