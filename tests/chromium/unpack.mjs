// Unpack the Chromium of @sparticuz/chromium and the libraries that bare machines lack into the folder given.
import { mkdirSync, readFileSync, writeFileSync, chmodSync } from "node:fs";
import { join, resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { brotliDecompressSync } from "node:zlib";
import tar from "tar-fs";

const folder = resolve(process.argv[2]);
const bin = join(import.meta.dirname, "node_modules/@sparticuz/chromium/bin");
const unpacked = (name) => brotliDecompressSync(readFileSync(join(bin, name)));

mkdirSync(folder, { recursive: true });
for (const name of ["al2023.tar.br", "swiftshader.tar.br", "fonts.tar.br"])
  await pipeline(Readable.from(unpacked(name)), tar.extract(folder));
writeFileSync(join(folder, "chromium"), unpacked("chromium.br"));
chmodSync(join(folder, "chromium"), 0o755);
// Its own fonts.conf names folders of AWS Lambda; Chromium stops where it finds no font.
writeFileSync(
  join(folder, "fonts.conf"),
  `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>${folder}/fonts</dir><cachedir>${folder}/fonts-cache</cachedir></fontconfig>
`,
);
