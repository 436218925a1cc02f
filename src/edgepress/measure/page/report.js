// Draws the plots in the page's own colors, again when light turns dark; makes their points reachable by keyboard;
// filters the table of rows. The plots use the expression interpreter: the page's policy allows no eval.
document.addEventListener("DOMContentLoaded", () => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue("--" + name).trim();
    const axis = { domainColor: color("rule"), tickColor: color("rule"), gridColor: color("rule"), labelColor: color("muted"),
      titleColor: color("muted"), titleFontWeight: 500, labelFontSize: 12, titleFontSize: 12, titlePadding: 8, labelPadding: 5,
      labelOverlap: true, labelSeparation: 8 };
    return {
      background: "transparent", font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null }, axis, axisX: { grid: false }, axisY: { domain: false, ticks: false, tickCount: 5 },
      legend: { labelColor: color("ink"), labelFontSize: 12, symbolSize: 80, padding: 0, offset: 10, labelLimit: 200 },
      text: { color: color("ink"), fontSize: 12 },
      range: { category: ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"].map(color) },
      front: color("muted"),
    };
  };

  // A point and its line in the table know each other by name.
  const lines = new Map([...document.querySelectorAll("tr[data-row]")].reverse().map((row) => [row.dataset.row, row]));
  const rowOf = (name) => lines.get(name);
  const show = (row) => {
    const filter = document.getElementById("filter");
    if (row.hidden && filter) { filter.value = ""; filter.dispatchEvent(new Event("input")); }
    for (const other of document.querySelectorAll("tr.found")) other.classList.remove("found");
    row.classList.add("found");
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };

  const reachable = (element) => {
    const readout = element.parentElement.querySelector(".readout");
    for (const point of element.querySelectorAll('path[role="graphics-symbol"]')) {
      const text = point.getAttribute("aria-label");
      if (!text) continue;
      point.setAttribute("tabindex", "0");
      const tell = () => { readout.textContent = text; };
      point.addEventListener("focus", tell);
      point.addEventListener("mouseenter", tell);
      const row = rowOf(point.__data__ && point.__data__.datum && point.__data__.datum.row);
      if (!row) continue;
      point.dataset.to = row.dataset.row;
      point.addEventListener("click", () => show(row));
      point.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(row); }
      });
    }
  };

  const draw = async () => {
    const { front, ...theme } = config();
    for (const [name, spec] of Object.entries(specs)) {
      const element = document.getElementById(name);
      const own = structuredClone(spec);
      for (const param of own.params || []) if (param.name === "front") param.value = front;
      own.config = { ...theme, legend: { ...theme.legend, columns: element.clientWidth < 420 ? 2 : 3,
        columnPadding: element.clientWidth < 420 ? 6 : 16 } };
      own.autosize = { type: "fit-x", contains: "padding", resize: true };
      try {
        await window.vegaEmbed(element, own, { renderer: "svg", actions: false, ast: true, mode: "vega-lite" });
        reachable(element);
      } catch (error) {
        element.textContent = "This plot could not be drawn; its figures are in the tables.";
        console.error(error);
      }
    }
    document.documentElement.dataset.drawn = "yes";
  };

  draw();
  dark.addEventListener("change", draw);

  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.querySelectorAll("thead th")];
    headings.forEach((heading, place) => heading.querySelector("button").addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[place].dataset.value;
      const order = (a, b) => {
        if (a === "" || b === "") return (a === "") - (b === "");  // what has no figure comes last either way
        const numbers = [Number(a), Number(b)];
        const less = numbers.some(Number.isNaN) ? a.localeCompare(b) : numbers[0] - numbers[1];
        return up ? less : -less;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
    }));
  }

  const save = document.getElementById("save");
  if (save) {
    // The rows become a file when they are asked for: as an address they would double the time the page takes to open.
    save.addEventListener("click", () => {
      if (save.href.startsWith("blob:")) return;
      const text = JSON.parse(document.getElementById("csv").textContent);
      save.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    });
  }

  const filter = document.getElementById("filter");
  if (filter) {
    const rows = [...document.querySelectorAll("#all tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
    const count = document.getElementById("count");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    });
  }
});
