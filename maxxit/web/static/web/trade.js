/* The chart of a trade: candles from the API, with the post, the entry, the exit, and the levels of the position. */
"use strict";
(() => {
  const place = document.getElementById("trade-chart");
  const status = document.getElementById("chart-status");
  const trade = JSON.parse(document.getElementById("trade-data").textContent);
  const PAGE = 400, REFRESH_MS = 15000;
  const { colour } = Candles;
  const autoscaleInfoProvider = (original) => {
    const found = original();
    const levels = Object.values(trade.levels).map(Number);
    if (!found) return found;
    return { ...found, priceRange: { minValue: Math.min(found.priceRange.minValue, ...levels), maxValue: Math.max(found.priceRange.maxValue, ...levels) } };
  };
  const { chart, series } = Candles.create(place, { rightOffset: 4, options: { autoscaleInfoProvider }, repaint });
  const colours = { entry: "--link", stop: "--down", target: "--up", "trailing stop": "--down", "last trailing stop": "--down" };
  const lines = Object.entries(trade.levels).map(([name, price]) => {
    const dashed = name.includes("trailing"), style = colours[name] || "--soft";
    const line = series.createPriceLine({
      price: +price, color: colour(style), lineWidth: 1, title: name, axisLabelVisible: true,
      lineStyle: dashed ? LightweightCharts.LineStyle.Dashed : LightweightCharts.LineStyle.Solid,
    });
    return { line, style };
  });
  const marks = LightweightCharts.createSeriesMarkers(series, []);
  const long = trade.side === "long";
  let shown = [];

  function repaint() {
    for (const { line, style } of lines) line.applyOptions({ color: colour(style) });
    marks.setMarkers(shown.map(({ mark, time }) => ({ time, text: mark.text, ...shape(mark) })));
  }

  async function load(interval, limit, before) {
    const query = new URLSearchParams({ symbol: trade.symbol, interval, limit, before });
    const answer = await fetch(`/api/market/candles?${query}`, { credentials: "same-origin" });
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message || `status ${answer.status}`);
    return (await answer.json()).items.map((row) => ({ time: row.time, open: +row.open, high: +row.high, low: +row.low, close: +row.close }));
  }

  function shape(mark) {
    if (mark.what === "POST") return { position: "aboveBar", shape: "square", color: colour("--soft") };
    if (mark.what === "ENTRY") return { position: long ? "belowBar" : "aboveBar", shape: long ? "arrowUp" : "arrowDown", color: colour("--link") };
    return { position: long ? "aboveBar" : "belowBar", shape: "circle", color: colour(mark.text.includes("−") ? "--down" : "--up") };
  }

  function draw(bars) {
    const times = bars.map((bar) => bar.time);
    const barOf = (at) => times.filter((time) => time <= at).pop();
    shown = trade.marks.map((mark) => ({ mark, time: barOf(mark.at) })).filter((one) => one.time !== undefined);
    series.setData(bars);
    repaint();
    place.dataset.bars = String(bars.length);
    place.dataset.markers = String(shown.length);
    const first = shown.length ? times.indexOf(shown[0].time) : 0;
    chart.timeScale().setVisibleLogicalRange({ from: Math.max(0, first - 20), to: bars.length + 4 });
  }

  async function show() {
    try {
      let interval = trade.interval, bars = await load(interval, PAGE, trade.before);
      const first = Math.min(...trade.marks.map((mark) => mark.at));
      if (interval === "1m" && (!bars.length || bars[0].time > first)) bars = await load(interval = "5m", PAGE, trade.before);
      trade.interval = interval;
      const last = bars.length ? bars[bars.length - 1].close : 1;
      const digits = last >= 100 ? 2 : last >= 1 ? 4 : 6;
      series.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
      draw(bars);
      status.textContent = bars.length ? `${trade.symbol}, candles of ${interval}. Candles and their times are UTC.` : `No candles of ${trade.symbol} from that time.`;
    } catch (error) {
      status.textContent = `The chart could not be loaded: ${error.message}`;
    }
  }

  async function refresh() {
    if (document.hidden) return;
    try {
      const bars = await load(trade.interval, 3, new Date(Date.now() + 3600000).toISOString());
      for (const bar of bars) if (bar.time >= last(series)) series.update(bar);
    } catch (error) {
      status.textContent = `The chart is not refreshed: ${error.message}`;
    }
  }
  const last = (one) => { const data = one.data(); return data.length ? data[data.length - 1].time : 0; };

  show();
  if (trade.open) setInterval(refresh, REFRESH_MS);
})();
