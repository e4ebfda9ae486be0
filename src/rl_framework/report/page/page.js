"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const plots = Array.from(document.querySelectorAll(".plot"));
  const isTouched = window.matchMedia("(hover: none), (pointer: coarse)").matches;
  const dashes = ["solid", "dash", "dot"];
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: isTouched ? false : "hover",
    // By name, since some of those that Plotly would add send the plot to its makers.
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };

  function look(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  function faint(color, share) {
    const parts = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
    return "rgba(" + parts.join(",") + "," + share + ")";
  }

  function dressed(trace, count) {
    const color = look("--c" + (trace.color % 8));
    const dash = dashes[Math.floor(trace.color / 8) % dashes.length];
    const dress = Object.assign({ showlegend: false }, trace);
    delete dress.color;
    delete dress.role;
    if (trace.role === "single") {
      dress.line = { color: faint(color, 0.35), width: 1 };
    } else if (trace.role === "edge" || trace.role === "band") {
      dress.line = { color: "rgba(0,0,0,0)", width: 0 };
      dress.fillcolor = faint(color, 0.2);
    } else if (trace.role === "points") {
      dress.marker = { color: color, size: 6 };
      if (dress.error_y) dress.error_y = Object.assign({ color: color, thickness: 1.5, width: 3 }, dress.error_y);
    } else if (trace.role === "box") {
      dress.line = { color: color, width: 1.5 };
      dress.marker = { color: faint(color, 0.6), size: 4 };
      dress.fillcolor = faint(color, 0.2);
    } else {
      dress.line = { color: color, width: 2, dash: dash };
      dress.marker = { color: color, size: 5 };
    }
    if (!dress.hoverinfo && count === 1 && trace.role !== "box") dress.hovertemplate += "<extra></extra>";
    return dress;
  }

  function axis(own) {
    const text = look("--text");
    return Object.assign({}, own, {
      title: { text: own.title.text, font: { size: 12 }, standoff: 8 },
      automargin: true,
      separatethousands: true,
      gridcolor: look("--line"),
      linecolor: look("--line"),
      zerolinecolor: look("--line"),
      tickfont: { color: text, size: 11 },
      nticks: 7,
    });
  }

  function drawn(figure) {
    const named = figure.data.filter((trace) => trace.role === "mean" || trace.role === "points");
    const isBox = figure.data.some((trace) => trace.role === "box");
    const layout = Object.assign({}, figure.layout, {
      xaxis: Object.assign(axis(figure.layout.xaxis), { spikecolor: look("--muted"), spikethickness: 1, spikedash: "dot" }),
      yaxis: Object.assign(axis(figure.layout.yaxis), { showspikes: false }),
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: look("--background"), // lines at the pointer get an edge of this colour
      font: { color: look("--text"), family: getComputedStyle(document.body).fontFamily },
      margin: { l: 48, r: 12, t: 12, b: 40 },
      hovermode: isBox ? "closest" : "x unified",
      hoverlabel: {
        bgcolor: look("--surface"),
        bordercolor: look("--line"),
        font: { color: look("--text"), size: 12 },
        namelength: -1,
      },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look("--muted"), activecolor: look("--accent") },
      dragmode: isTouched ? false : "zoom",
      showlegend: false,
    });
    return { data: figure.data.map((trace) => dressed(trace, named.length)), layout: layout };
  }

  function draw(plot) {
    const figure = drawn(figures[Number(plot.dataset.figure)]);
    window.Plotly.react(plot, figure.data, figure.layout, config);
  }

  function redraw() {
    plots.filter((plot) => plot.dataset.drawn).forEach(draw);
  }

  // A cursor in every series at the moment that the video shows; a click in one goes to that moment.
  function follow(replay) {
    const video = replay.querySelector("video");
    const own = Array.from(replay.querySelectorAll(".plot"));
    let isWaiting = false;
    function point() {
      isWaiting = false;
      const at = video.currentTime;
      const cursor = { type: "line", x0: at, x1: at, yref: "paper", y0: 0, y1: 1, line: { color: look("--muted"), width: 1.5 } };
      own.forEach((plot) => window.Plotly.relayout(plot, { shapes: [cursor] }));
    }
    function soon() {
      if (!isWaiting) window.requestAnimationFrame(point);
      isWaiting = true;
    }
    ["timeupdate", "seeking"].forEach((event) => video.addEventListener(event, soon));
    own.forEach((plot) => plot.on("plotly_click", (event) => { video.currentTime = event.points[0].x; }));
  }

  // One after the other, so that the page can be scrolled meanwhile.
  function next(index) {
    if (index < plots.length) {
      draw(plots[index]);
      plots[index].dataset.drawn = "yes";
      window.setTimeout(next, 0, index + 1);
      return;
    }
    document.querySelectorAll(".replay").forEach((replay) => {
      if (replay.querySelector("video") && replay.querySelector(".plot")) follow(replay);
    });
    root.dataset.drawn = String(plots.length);
  }

  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => { root.classList.add("paper"); redraw(); });
  window.addEventListener("afterprint", () => { root.classList.remove("paper"); redraw(); });
  next(0);
})();
