// Differences of two systems on the same images, as vtbench.statistics.paired takes them: Student's t (or Bonett and
// Price's interval of two proportions) over the images that both have; a lossless image counts in pooled squared errors.
"use strict";

const LOSSLESS = "lossless";
const PEAK = 255;

// P(|t| < x) of whole degrees of freedom: Abramowitz and Stegun 26.7.3 and 26.7.4.
function studentInside(x, freedom) {
  const angle = Math.atan(x / Math.sqrt(freedom)), cosine = Math.cos(angle);
  let term = freedom % 2 ? cosine : 1, sum = freedom === 1 ? 0 : term;
  for (let k = freedom % 2 ? 3 : 2; k < freedom; k += 2) {
    term *= ((k - 1) / k) * cosine * cosine;
    sum += term;
  }
  return freedom % 2 ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
}

// The value that |t| stays below with the probability `level`.
const quantiles = new Map();
function studentQuantile(freedom, level = 0.95) {
  if (!quantiles.has(freedom)) {
    let low = 0, high = 100;
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      if (studentInside(middle, freedom) < level) low = middle; else high = middle;
    }
    quantiles.set(freedom, low);
  }
  return quantiles.get(freedom);
}

const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

// How far each image moves sum(w v) / sum(w), times n.
function influence(values, weights, mean) {
  const typical = sumOf(weights) / weights.length;
  return values.map((value, i) => (weights[i] * (value - mean)) / typical);
}

function weightedMean(values, weights) {
  return sumOf(values.map((value, i) => weights[i] * value)) / sumOf(weights);
}

function isProportion(values, weights, [low, high]) {
  if (!values.every((v) => v === 0 || v === 1) || !weights.every((w) => w === weights[0])) return false;
  return (low === 0 && high === 1) || (low === null && high === null && new Set(values).size === 2);
}

function bonettPrice(a, b) {
  const n = a.length + 2, z = 1.959963984540054;
  const won = (a.filter((v, i) => v > b[i]).length + 1) / n, lost = (a.filter((v, i) => v < b[i]).length + 1) / n;
  const half = z * Math.sqrt((won + lost - (won - lost) ** 2) / n);
  return [Math.max(-1, won - lost - half), Math.min(1, won - lost + half)];
}

// Values of one metric by image of two runs -> what a line of the comparison shows; null if no image has both.
// one, two: {items, pictures, pixels, metric: {values, weights, better, bounds, name}}
function pairedDifference(one, two) {
  const places = new Map(two.items.map((item, place) => [item, place]));
  const pairs = one.items.map((item, i) => [item, i, places.get(item)]).filter(([, i, j]) => {
    if (j === undefined || one.metric.values[i] === null || two.metric.values[j] === null) return false;
    return !one.pictures[i] || !two.pictures[j] || one.pictures[i] === two.pictures[j];
  });
  if (!pairs.length) return null;
  const a = pairs.map(([, i]) => one.metric.values[i]), b = pairs.map(([, , j]) => two.metric.values[j]);
  const up = one.metric.better === "lower" ? -1 : 1, rank = (v) => (v === LOSSLESS ? Infinity : v);
  const sign = (i) => (a[i] === b[i] ? 0 : up * Math.sign(rank(a[i]) - rank(b[i])));
  const signs = pairs.map((_, i) => sign(i));
  const out = {
    n: pairs.length,
    wins: signs.filter((s) => s > 0).length,
    losses: signs.filter((s) => s < 0).length,
    images: pairs.map(([item], i) => ({ item, a: a[i], b: b[i], gap: a[i] === b[i] ? 0 : Math.abs(rank(a[i]) - rank(b[i])) })),
  };
  out.ties = out.n - out.wins - out.losses;
  out.images.sort((x, y) => y.gap - x.gap || (x.item < y.item ? -1 : 1));
  const pooled = a.includes(LOSSLESS) || b.includes(LOSSLESS);
  return { ...out, pooled, ...(pooled ? pooledScores(one, a, b, pairs) : scores(one, two, a, b, pairs)) };
}

function scores(one, two, a, b, pairs) {
  const weightsOf = (metric, place) => pairs.map((pair) => (metric.weights ? metric.weights[pair[place]] : 1));
  const wa = weightsOf(one.metric, 1), wb = weightsOf(two.metric, 2);
  const meanA = weightedMean(a, wa), meanB = weightedMean(b, wb), difference = meanA - meanB;
  let interval = null;
  if (isProportion([...a, ...b], [...wa, ...wb], one.metric.bounds)) interval = bonettPrice(a, b);
  else {
    const [pa, pb] = [influence(a, wa, meanA), influence(b, wb, meanB)];
    interval = studentInterval(difference, pa.map((part, i) => part - pb[i]));
  }
  return { a: meanA, b: meanB, difference, interval: a.length > 1 ? interval : null };
}

// A PSNR of lossless images: the squared errors are pooled, by pixels (tiles alike), and the difference linearised.
function pooledScores(one, a, b, pairs) {
  const byTile = one.metric.name.split("-").includes("tile");
  const weights = pairs.map(([, i]) => (byTile ? 1 : one.pixels[i]));
  const [ea, eb] = [a, b].map((values) => values.map((v) => (v === LOSSLESS ? 0 : PEAK ** 2 / 10 ** (v / 10))));
  const [ma, mb] = [weightedMean(ea, weights), weightedMean(eb, weights)];
  const decibels = (error) => 10 * Math.log10(PEAK ** 2 / error), slope = (error) => -10 / Math.LN10 / error;
  if (!ma || !mb) return { a: decibels(ma), b: decibels(mb), difference: null, interval: null };
  const [pa, pb] = [influence(ea, weights, ma), influence(eb, weights, mb)];
  const difference = decibels(ma) - decibels(mb);
  const parts = pa.map((part, i) => slope(ma) * part - slope(mb) * pb[i]);
  return { a: decibels(ma), b: decibels(mb), difference, interval: a.length > 1 ? studentInterval(difference, parts) : null };
}

function studentInterval(difference, parts) {
  const n = parts.length, error = Math.sqrt(sumOf(parts.map((part) => part * part)) / (n * (n - 1)));
  const half = studentQuantile(n - 1) * error;
  return [difference - half, difference + half];
}
