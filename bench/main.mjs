// Measures the parts that are named, one after the other, and says what came of it. Started by run, which has
// the servers running.
import { beginPart, printTable, writeResults } from './lib/report.mjs';

const names = process.argv.slice(2);
const parts = await Promise.all(names.map((name) => import(`./parts/${name}.mjs`)));
let failed = false;

for (const [i, part] of parts.entries()) {
  console.log(`-- ${names[i]}: ${part.title}`);
  beginPart(names[i]);
  try {
    await part.measure();
  } catch (error) {
    failed = true;
    console.error(`${names[i]} could not be measured: ${error.stack}`);
  }
}
printTable();
writeResults('out', names);
process.exit(failed ? 1 : 0);
