// Plots, drawn by gnuplot with ../plots/NAME.gp from out/NAME-N.tsv, into out/NAME.svg.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Series: a name, and rows of numbers. */
export function plot(name, series) {
  series.forEach(({ rows }, i) => writeFileSync(`out/${name}-${i + 1}.tsv`, rows.map((row) => `${row.join('\t')}\n`).join('')));
  const script = fileURLToPath(new URL(`../plots/${name}.gp`, import.meta.url));
  const names = series.map((one) => one.name).join('|');
  try {
    execFileSync('gnuplot', ['-c', script, `out/${name}`, String(series.length), names], { stdio: ['ignore', 'inherit', 'inherit'] });
  } catch (error) {
    console.error(`${name}.svg is not drawn: ${error.message}`);
  }
}
