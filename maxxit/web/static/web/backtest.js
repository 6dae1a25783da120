/* The trades of a stored backtest on candles of its tape's quotes. */
"use strict";
(() => {
  const place = document.getElementById("backtest-chart");
  const data = JSON.parse(document.getElementById("backtest-data").textContent);
  const { colour } = Candles;
  const bars = data.bars.map(([time, open, high, low, close]) => ({ time, open: +open, high: +high, low: +low, close: +close }));
  const { chart, series } = Candles.create(place, { rightOffset: 4, repaint });
  const marks = LightweightCharts.createSeriesMarkers(series, []);
  const first = bars.length ? bars[0].time : 0;
  const last = bars.length ? bars[bars.length - 1].close : 1;
  const digits = last >= 100 ? 2 : last >= 1 ? 4 : 6;

  function mark([at, what, side, reason, net]) {
    const time = Math.max(Math.floor((at - 1) / data.seconds) * data.seconds, first), long = side === "long";
    if (what === "ENTRY") return { time, position: long ? "belowBar" : "aboveBar", shape: long ? "arrowUp" : "arrowDown", color: colour("--link") };
    return { time, position: long ? "aboveBar" : "belowBar", shape: "circle", color: colour(net.startsWith("-") ? "--down" : "--up") };
  }

  function repaint() {
    marks.setMarkers(data.marks.map(mark).sort((one, other) => one.time - other.time));
  }

  series.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
  series.setData(bars);
  repaint();
  chart.timeScale().fitContent();
  place.dataset.bars = String(bars.length);
  place.dataset.markers = String(data.marks.length);
})();
