"use strict";
(() => {
  const root = document.documentElement;
  const find = (selector, within = document) => [...within.querySelectorAll(selector)];
  const photos = new Map();

  // Everything is put in place as text: what a label or a reply says is never markup.
  function make(kind, given = {}, ...inside) {
    const element = document.createElement(kind);
    for (const [name, value] of Object.entries(given)) {
      if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...inside.filter((one) => one !== null && one !== undefined && one !== ""));
    return element;
  }

  function data(element) {
    return JSON.parse(element.textContent);
  }

  function photosOf(run) {
    if (!photos.has(run)) {
      const block = document.getElementById(`photos-${run}`);
      photos.set(run, block ? new Map(Object.entries(data(block))) : new Map());
    }
    return photos.get(run);
  }

  function shot(run, uid, words) {
    const source = photosOf(run).get(uid);
    if (!source) return make("div", { class: "shot lost" }, "no photo of it");
    return make("img", { class: "shot", src: source, alt: words });
  }

  function number(value, digits = 2) {
    return value === null || value === undefined ? "none" : value.toFixed(digits);
  }

  // ---- colours -------------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const choices = ["auto", "dark", "light"];
  let chosen = "auto";
  try {
    const kept = localStorage.getItem("fgvr-theme");
    if (choices.includes(kept)) chosen = kept;
  } catch { /* a page from a disk may have no storage */ }

  function colour(printing = false) {
    const isDark = !printing && (chosen === "dark" || (chosen === "auto" && dark.matches));
    root.dataset.theme = isDark ? "dark" : "light";
    button.textContent = { auto: "◐", dark: "☾", light: "☀" }[chosen];
    button.setAttribute("aria-label", `Colours: ${{ auto: "as the system has them", dark: "dark", light: "light" }[chosen]}`);
    for (const plot of plots) if (plot.drawn) paint(plot);
  }

  function nextColour() {
    chosen = choices[(choices.indexOf(chosen) + 1) % choices.length];
    try { localStorage.setItem("fgvr-theme", chosen); } catch { /* as above */ }
    colour();
  }

  // ---- plots ---------------------------------------------------------------------------------------------------
  const plots = find("figure.plot").map((figure) => ({
    figure, canvas: figure.querySelector(".canvas"), source: figure.querySelector("script"), drawn: false,
  }));

  function look(layout) {
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: of("--grid"), linecolor: of("--frame"), zerolinecolor: of("--frame"), tickcolor: of("--frame"), automargin: true,
      fixedrange: matchMedia("(pointer: coarse)").matches,
    };
    const narrow = innerWidth < 620;
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: 'system-ui, "Segoe UI", Roboto, sans-serif', size: narrow ? 11 : 12, color: of("--ink") },
      margin: { l: 44, r: 18, t: 10, b: 40, ...layout.margin },
      hoverlabel: { bgcolor: of("--card"), bordercolor: of("--frame"), font: { color: of("--ink") } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, ...layout.legend },
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
      hovermode: layout.hovermode || "closest", dragmode: axis.fixedrange ? false : "zoom",
    };
  }

  function withLook(traces) {
    const frame = getComputedStyle(root).getPropertyValue("--card").trim();
    for (const trace of traces) {
      if (trace.type !== "icicle") continue;
      trace.marker.line = { color: frame, width: 1 };
      trace.maxdepth = innerWidth < 620 ? 3 : -1;
      trace.marker.showscale = innerWidth >= 620;
    }
    return traces;
  }

  function paint(plot) {
    if (!window.Plotly) return;
    plot.content = plot.content || data(plot.source);
    const { data: traces, layout } = plot.content;
    const settings = { displayModeBar: false, responsive: true, scrollZoom: false };
    Plotly.react(plot.canvas, withLook(traces), look(layout), settings);
    plot.drawn = true;
    plot.figure.dataset.drawn = "";
  }

  function loadPlotly() {
    const source = document.getElementById("plotly");
    if (!source || window.Plotly) return;
    document.head.append(make("script", {}, source.textContent));
    source.remove();
  }

  const soon = window.requestIdleCallback || ((work) => setTimeout(work, 30));

  function drawRest() {
    const next = plots.find((plot) => !plot.drawn);
    if (!next) {
      root.dataset.ready = "";
      return;
    }
    paint(next);
    soon(drawRest);
  }

  function startPlots() {
    performance.mark("fgvr-plots");
    loadPlotly();
    if (!window.Plotly) {
      root.dataset.ready = "";
      return;
    }
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const plot = plots.find((one) => one.figure === entry.target);
        if (entry.isIntersecting && !plot.drawn) paint(plot);
      }
    }, { rootMargin: "300px" });
    plots.forEach((plot) => seen.observe(plot.figure));
    soon(drawRest);
  }

  // The same numbers as a table, for who cannot see or point.
  function numbers(plot) {
    const { data: traces } = data(plot.source);
    const place = plot.figure.querySelector(".numbers .wide");
    if (place.childElementCount) return;
    const body = make("tbody");
    for (const trace of traces.filter((one) => one.hoverinfo !== "skip")) {
      const flat = trace.type === "heatmap"
        ? trace.z.flatMap((row, y) => row.map((z, x) => [`${trace.y[y]}, ${trace.x[x]}`, z]))
        : trace.type === "icicle"
          ? trace.labels.map((label, n) => [label, trace.text[n]])
          : trace.x.map((x, n) => (trace.orientation === "h" ? [trace.y[n], x] : [x, trace.y[n]]));
      const some = flat.length <= 200 ? flat : flat.filter((_, n) => n % Math.ceil(flat.length / 200) === 0 || n === flat.length - 1);
      for (const [at, value] of some) body.append(make("tr", {}, make("th", { scope: "row" }, plain(trace.name || "")), make("td", {}, plain(at)), make("td", {}, plain(value))));
    }
    place.append(make("table", {}, body));
  }

  function plain(value) {
    return String(value ?? "none").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
  }

  // ---- decks: cards that are leafed through --------------------------------------------------------------------
  function deck(place) {
    const content = data(place.querySelector("script"));
    const run = Number(place.dataset.run);
    const isGallery = place.dataset.kind === "gallery";
    const all = isGallery ? content.groups : content.cards;
    const narrow = innerWidth < 620;
    const size = isGallery ? (narrow ? 3 : 5) : (narrow ? 4 : 8);
    const name = (place.querySelector("h3") || { textContent: "cards" }).textContent;
    let shown = all, page = 0;
    const list = make("div", { class: isGallery ? "groups" : "cards" });
    const count = make("span", { class: "count", role: "status" });
    const back = make("button", { type: "button", "aria-label": `Back, ${name}`, onclick: () => turn(-1) }, "‹ Back");
    const on = make("button", { type: "button", "aria-label": `On, ${name}`, onclick: () => turn(1) }, "On ›");
    const field = make("input", { type: "number", min: "1", value: "1", "aria-label": `Page, ${name}`, onchange: () => go(Number(field.value) - 1) });
    const bar = make("div", { class: "bar" });
    if (isGallery) bar.append(...filters(all, content, (some) => { shown = some; go(0); }));
    const turning = [back, make("label", {}, "page", field), count, on];
    if (all.length > size || isGallery) bar.append(make("span", { class: "bar push" }, ...turning));
    place.append(bar, list);
    place.tabIndex = 0;
    place.setAttribute("role", "region");
    place.setAttribute("aria-label", name);
    place.addEventListener("keydown", (event) => {
      if (event.target !== place || event.ctrlKey || event.metaKey || event.altKey) return;
      const last = Math.ceil(shown.length / size) - 1;
      const to = { ArrowLeft: page - 1, ArrowRight: page + 1, Home: 0, End: last }[event.key];
      if (to !== undefined) { event.preventDefault(); go(to); }
    });
    function turn(by) { go(page + by); }
    function go(to) {
      const pages = Math.max(1, Math.ceil(shown.length / size));
      page = Math.min(Math.max(0, Number.isFinite(to) ? Math.round(to) : 0), pages - 1);
      const some = shown.slice(page * size, (page + 1) * size);
      list.replaceChildren(...some.map((one) => (isGallery ? group(one, content, run) : card(one, run))));
      if (!some.length) list.append(make("p", { class: "note" }, "Nothing is like that."));
      field.value = page + 1;
      field.max = pages;
      back.disabled = page === 0;
      on.disabled = page === pages - 1;
      count.textContent = `of ${pages.toLocaleString()}`;
      place.dataset.page = page + 1;
    }
    go(0);
  }

  function filters(all, content, tell) {
    const mixed = (one) => new Set(one.rows.map((row) => row.reward)).size > 1;
    const isRight = (row) => row.verdict === "specific" || row.verdict === "more specific";
    const kinds = {
      "all groups": () => true,
      "some right, some not": (one) => one.rows.some(isRight) && !one.rows.every(isRight),
      "none right": (one) => !one.rows.some(isRight),
      "all right": (one) => one.rows.every(isRight),
      "rewards differ": mixed,
      "cut short": (one) => one.rows.some((row) => row.cut),
      "without an answer": (one) => one.rows.some((row) => row.answer === null),
    };
    const spread = (one) => { const of = one.rows.map((row) => row.reward ?? 0); return Math.max(...of) - Math.min(...of); };
    const mean = (one) => one.rows.reduce((sum, row) => sum + (row.reward ?? 0), 0) / one.rows.length;
    const orders = { "first to last": null, "last to first": (a, b) => b.step - a.step, "lowest reward": (a, b) => mean(a) - mean(b), "highest reward": (a, b) => mean(b) - mean(a), "widest spread": (a, b) => spread(b) - spread(a) };
    const option = (name) => make("option", { value: name }, name);
    const kind = make("select", { "aria-label": "Which groups", onchange: () => choose() }, ...Object.keys(kinds).map(option));
    const order = make("select", { "aria-label": "In which order", onchange: () => choose() }, ...Object.keys(orders).map(option));
    const search = make("input", { type: "search", placeholder: "class or answer", "aria-label": "Class or answer", oninput: () => choose() });
    function choose() {
      const wanted = search.value.trim().toLowerCase();
      const says = (one) => !wanted || one.label.toLowerCase().includes(wanted) || one.rows.some((row) => (row.answer || "").toLowerCase().includes(wanted));
      const some = all.filter((one) => kinds[kind.value](one) && says(one));
      if (orders[order.value]) some.sort(orders[order.value]);
      tell(some);
    }
    return [make("label", {}, "show", kind), make("label", {}, "order", order), search];
  }

  function group(one, content, run) {
    const rewards = one.rows.map((row) => row.reward).filter((value) => value !== null);
    const mean = rewards.length ? number(rewards.reduce((a, b) => a + b, 0) / rewards.length) : "none";
    const cut = one.rows.filter((row) => row.cut).length;
    const seen = make("div", { class: "seen" }, shot(run, one.photo, one.label), make("h4", {}, one.label), make("p", {}, `step ${one.step}, epoch ${one.epoch}`), make("p", {}, one.uid));
    if (one.partners.length) {
      seen.append(make("div", { class: "pair" }, ...one.partners.map((partner) => make("figure", {}, shot(run, partner.uid, partner.label), make("figcaption", {}, `${partner.role}: ${partner.label || "class unknown"}`)))));
    }
    const heads = [...content.components, ...(content.components.length === 1 && one.rows.every((row) => row.reward === row.rewards[0]) ? [] : ["reward"])];
    const told = [...heads, "advantage", "tokens"];
    const head = make("tr", {}, make("th", { scope: "col" }, "answer"), ...told.map((name) => make("th", { scope: "col", class: "n" }, name)));
    const longest = Math.max(1e-9, ...one.rows.map((row) => Math.abs(row.advantage ?? 0)));
    const rows = alike(one.rows).map(([row, times]) => {
      const kind = row.verdict ? row.verdict.replace(/ /g, "_") : "none";
      const summary = make("summary", {}, make("span", { class: "name" }, row.answer ?? (row.text.slice(0, 80) || "(nothing)")));
      if (row.verdict) summary.append(make("span", { class: "mark", style: `color:var(--${kind})` }, row.verdict));
      if (row.cut) summary.append(make("span", { class: "mark tone-faint" }, "cut short"));
      if (row.about) summary.append(make("span", { class: "mark tone-faint" }, row.about));
      if (times > 1) summary.append(make("span", { class: "times" }, `× ${times}`));
      const values = [...row.rewards, ...(heads.length > content.components.length ? [row.reward] : [])];
      const cells = [...values.map((value) => number(value)), gauge(row.advantage, longest), row.length ?? ""];
      return make("tr", {}, make("th", { scope: "row" }, make("details", {}, summary, make("pre", { tabindex: "0" }, row.text || "(nothing)"))), ...cells.map((cell, n) => make("td", { class: "n", "data-head": told[n] }, cell)));
    });
    const facts = make("p", { class: "facts" }, make("b", {}, `${one.rows.length} completions`), `, mean reward ${mean}`, cut ? `, ${cut} cut short` : "");
    const options = one.options ? make("ul", { class: "options", "aria-label": "Options" }, ...one.options.map((name) => make("li", { class: name === one.label ? "right" : "" }, name))) : "";
    const table = make("table", { class: "said" }, make("thead", {}, head), make("tbody", {}, ...rows));
    return make("article", { class: "group" }, seen, make("div", {}, facts, options, table));
  }

  // The same words with the same worth stand once, with how often they were said; the best first.
  function alike(rows) {
    const found = new Map();
    for (const row of rows) {
      const key = JSON.stringify([row.text, row.reward, row.advantage, row.verdict, row.about]);
      const known = found.get(key);
      if (known) known[1] += 1;
      else found.set(key, [row, 1]);
    }
    return [...found.values()].sort(([a], [b]) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity) || (b.advantage ?? 0) - (a.advantage ?? 0));
  }

  function gauge(value, longest) {
    if (value === null) return "none";
    const wide = (Math.abs(value) / longest) * 50;
    const bar = make("i", { class: value < 0 ? "less" : "", style: `${value < 0 ? "right" : "left"}:50%;width:${wide}%` });
    return make("span", {}, make("span", { class: "gauge", "aria-hidden": "true" }, bar), ` ${value > 0 ? "+" : ""}${value.toFixed(2)}`);
  }

  function card(one, run) {
    const shots = one.photos.map((photo) => make("figure", {}, shot(run, photo.uid, photo.words || one.title), photo.words ? make("figcaption", { class: photo.tone ? `tone-${photo.tone}` : "" }, photo.role ? make("small", {}, photo.role) : "", photo.words) : ""));
    if (one.arrow) shots.splice(1, 0, make("span", { class: "arrow", "aria-hidden": "true" }, "→"));
    const parts = [make("div", { class: "row" }, ...shots), make("h4", {}, one.title, one.said ? make("small", {}, one.said) : "")];
    for (const line of one.lines || []) parts.push(make("p", { class: "line" }, make("small", {}, line.head), make("span", { class: `tone-${line.tone}` }, line.words)));
    for (const bar of one.bars || []) {
      const strip = make("i", { class: bar.tone, style: `width:${(100 * bar.share).toFixed(1)}%` });
      parts.push(make("div", { class: "share" }, make("span", { class: bar.tone ? `tone-${bar.tone}` : "" }, bar.name), strip, make("span", {}, bar.words)));
    }
    if (one.quote) parts.push(make("details", {}, make("summary", {}, "The question, word for word"), make("pre", { tabindex: "0" }, one.quote)));
    return make("article", { class: "card" }, ...parts);
  }

  // ---- the page ------------------------------------------------------------------------------------------------
  button.addEventListener("click", nextColour);
  dark.addEventListener("change", () => colour());
  addEventListener("beforeprint", () => { loadPlotly(); plots.forEach(paint); colour(true); });
  addEventListener("afterprint", () => colour());
  addEventListener("keydown", (event) => {
    const typing = event.target.closest && event.target.closest("input, select, textarea");
    if (event.key === "t" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) nextColour();
  });
  for (const plot of plots) plot.figure.querySelector(".numbers").addEventListener("toggle", () => numbers(plot));
  const links = new Map(find(".top nav a").map((link) => [link.hash.slice(1), link]));
  const reading = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      const link = links.get(entry.target.id);
      if (link) {
        link.setAttribute("aria-current", "true");
        link.parentElement.scrollTo({ left: link.offsetLeft - link.parentElement.clientWidth / 2, behavior: "instant" });
      }
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  find("main section").forEach((part) => reading.observe(part));
  if (innerWidth < 620) find(".tables").forEach((tables) => find(".table", tables).slice(1).forEach((table) => { table.open = false; }));
  colour();
  find(".deck").forEach(deck);
  performance.mark("fgvr-open");
  requestAnimationFrame(() => setTimeout(startPlots, 0));
})();
