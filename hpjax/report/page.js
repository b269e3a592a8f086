// What moves on the page: pictures are drawn when they come near, tabs, the trial that is pointed at, sorting, copying.
"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts-data");
  const trials = read("trials-data");
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = new Set();
  const touch = matchMedia("(pointer: coarse)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const NARROW = 560;
  const PRINTED = 690;
  const PRINTED_HIGH = 330;
  let printing = false;

  // A copy of plain values in which `@name` is the theme's colour of that name.
  function themed(value, look) {
    if (typeof value === "string") {
      return value[0] === "@" ? look.getPropertyValue("--" + value.slice(1)).trim() : value;
    }
    if (Array.isArray(value)) {
      // Thousands of numbers are not copied; a step of a colour scale is a number and a name.
      const plain = typeof value[0] === "number" && typeof value[value.length - 1] !== "string";
      return plain ? value : value.map((one) => themed(one, look));
    }
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, themed(one, look)]));
    }
    return value;
  }

  const axis = {
    gridcolor: "@grid", linecolor: "@edge", tickcolor: "@edge", zeroline: false, automargin: true, showline: true, ticks: "outside",
    tickfont: { size: 11 },
  };

  function layoutOf(chart, width) {
    const own = chart.layout;
    const layout = {
      ...own,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: "@ink" },
      margin: { l: 12, r: 14, t: 12, b: 12 },
      hovermode: "closest",
      hoverlabel: { bgcolor: "@panel", bordercolor: "@edge", font: { color: "@ink", size: 12 }, align: "left" },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "@muted", activecolor: "@ink" },
      // A finger that scrolls the page must not zoom.
      dragmode: touch.matches ? false : own.meta && own.meta.brush ? "select" : "zoom",
      xaxis: { ...axis, ...own.xaxis, title: { ...own.xaxis.title, standoff: 8, font: { size: 12 } } },
      yaxis: { ...axis, ...own.yaxis, title: { ...own.yaxis.title, standoff: 8, font: { size: 12 } } },
    };
    if (printing) Object.assign(layout, { width, height: Math.min(own.height, Math.max(PRINTED_HIGH, 0.75 * own.height)) });
    return layout;
  }

  function dataOf(chart, width) {
    if (width >= NARROW) return chart.data;
    const below = { orientation: "h", x: 0.5, y: -0.22, yanchor: "top" };
    return chart.data.map((one) => {
      if (!one.showscale) return one;
      const title = { ...one.colorbar.title, side: "bottom" };
      return { ...one, colorbar: { ...one.colorbar, ...below, title } };
    });
  }

  function draw(place) {
    const chart = charts[place.dataset.chart];
    const look = getComputedStyle(document.body);
    const width = printing ? Math.min(PRINTED, place.closest(".chart").clientWidth || PRINTED) : place.clientWidth;
    const data = themed(dataOf(chart, width), look);
    const layout = themed(layoutOf(chart, width), look);
    const config = {
      displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      displayModeBar: touch.matches ? false : "hover",
    };
    // All is drawn anew, what was brushed away too.
    place.brushes = new Map();
    const first = !drawn.has(place);
    drawn.add(place);
    const done = Plotly.react(place, data, layout, config);
    return first ? done.then(() => { listen(place); brushing(place); }) : done;
  }

  // The trial that is pointed at, or touched: its curve in front, its settings below.
  function listen(place) {
    const details = place.closest(".panel, .step").querySelector(".details");
    if (!details || !place.dataset.study) return;
    const last = place.data.length - 1;
    let shown = null;
    const show = (event) => {
      const point = event.points.find((one) => one.customdata !== undefined && one.customdata !== null);
      const number = point ? point.customdata : null;
      if (number === null || number === shown) return;
      shown = number;
      details.classList.add("on");
      details.textContent = (trials[place.dataset.study] || {})[number] || "";
      const trace = place.data[point.curveNumber];
      const x = [], y = [];
      trace.customdata.forEach((one, i) => {
        if (one === number) { x.push(trace.x[i]); y.push(trace.y[i]); }
      });
      Plotly.restyle(place, { x: [x], y: [y] }, [last]);
    };
    place.on("plotly_hover", show);
    place.on("plotly_click", show);
  }

  // Dragging along a row leaves the trials that pass there; their lines elsewhere are gaps.
  function brushing(place) {
    const chart = charts[place.dataset.chart];
    if (!chart.layout.meta || !chart.layout.meta.brush) return;
    const details = place.closest(".panel, .step").querySelector(".details");
    const lines = chart.data.map((trace, i) => i).filter((i) => chart.data[i].customdata);
    const rows = chart.layout.yaxis.tickvals;
    const apply = () => {
      const known = new Set(), gone = new Set();
      for (const i of lines) {
        const { x, y, customdata } = chart.data[i];
        const passed = new Map();
        customdata.forEach((number, k) => {
          known.add(number);
          const brush = place.brushes.get(y[k]);
          if (brush && x[k] !== null && x[k] >= brush[0] && x[k] <= brush[1]) {
            passed.set(number, (passed.get(number) || 0) + 1);
          }
        });
        for (const number of customdata) if ((passed.get(number) || 0) < place.brushes.size) gone.add(number);
      }
      const kept = lines.map((i) => chart.data[i].y.map((one, k) => (gone.has(chart.data[i].customdata[k]) ? null : one)));
      const look = getComputedStyle(document.body);
      const shapes = [...place.brushes].map(([row, [x0, x1]]) => (
        { type: "rect", x0, x1, y0: row - 0.12, y1: row + 0.12, fillcolor: "@best", opacity: 0.35, line: { width: 0 } }
      ));
      Plotly.update(place, { y: kept }, { shapes: themed(shapes, look), selections: [] }, lines);
      details.classList.toggle("on", place.brushes.size > 0);
      details.textContent = place.brushes.size
        ? `${known.size - gone.size} of ${known.size} settings pass; a double click brings all back.`
        : "";
    };
    place.on("plotly_selected", (event) => {
      if (!event || !event.range) return;
      const [x0, x1] = [...event.range.x].sort((one, other) => one - other);
      const middle = (event.range.y[0] + event.range.y[1]) / 2;
      const row = rows.reduce((one, other) => (Math.abs(other - middle) < Math.abs(one - middle) ? other : one));
      place.brushes.set(row, [x0, x1]);
      apply();
    });
    const clear = () => {
      if (!place.brushes.size) return;
      place.brushes.clear();
      apply();
    };
    place.on("plotly_doubleclick", clear);
    place.on("plotly_deselect", clear);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && entry.target.clientWidth && !drawn.has(entry.target)) draw(entry.target);
    }
  }, { rootMargin: "500px" });
  plots.forEach((place) => seen.observe(place));

  // Also for whoever tests the page.
  window.drawAll = () => Promise.all(plots.filter((place) => place.clientWidth).map(draw));

  function choose(tab) {
    for (const other of tab.parentElement.children) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
    }
  }
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const all = [...tab.parentElement.children];
      const next = all[(all.indexOf(tab) + step + all.length) % all.length];
      choose(next);
      next.focus();
    });
  }

  for (const table of document.querySelectorAll(".sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const head = event.target.closest("th");
      if (!head) return;
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const number = (text) => Number(text.replace(/,/g, ""));
      const text = (row) => row.cells[head.cellIndex].textContent;
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const [a, b] = [text(one), text(other)];
        const [x, y] = [number(a), number(b)];
        const found = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
        return up ? found : -found;
      });
      table.tBodies[0].append(...rows);
    });
  }

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        // A page without the right to the clipboard: what is chosen can still be copied.
        getSelection().selectAllChildren(code);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  dark.addEventListener("change", () => drawn.forEach((place) => place.clientWidth && draw(place)));
  addEventListener("beforeprint", () => {
    printing = true;
    document.body.classList.add("printing");
    window.drawAll();
  });
  addEventListener("afterprint", () => {
    printing = false;
    document.body.classList.remove("printing");
    drawn.forEach((place) => (place.clientWidth ? draw(place) : drawn.delete(place)));
  });
})();
