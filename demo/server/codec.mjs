// Owns the way between PNG or JPEG and plain pixels: { width, height, rgb }, three bytes a pixel, no padding.
import jpeg from 'jpeg-js';
import { PNG } from 'pngjs';

/** The most pixels that are decoded: it bounds memory, whatever a header claims. */
export const MAX_INPUT_PIXELS = 2 ** 21;

export const CONTENT_TYPES = { png: 'image/png', jpeg: 'image/jpeg' };

/** An error that is the client's to mend. */
export function badInput(message) {
  return Object.assign(new Error(message), { badInput: true });
}

/** The pixels of a PNG or JPEG file, told apart by their bytes. What is transparent becomes white. */
export function decodePicture(bytes) {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length === 0)
    throw badInput('the picture is empty');
  try {
    if (isPng(buffer))
      return decodePng(buffer);
    if (isJpeg(buffer))
      return decodeJpeg(buffer);
  } catch (error) {
    throw error.badInput ? error : badInput(`the picture cannot be decoded: ${error.message}`);
  }
  throw badInput('the picture is neither PNG nor JPEG; convert it to one of them');
}

/** The bytes of a PNG or JPEG file. */
export function encodePicture({ width, height, rgb, format = 'png', quality = 92 }) {
  if (format === 'jpeg')
    return Uint8Array.from(jpeg.encode({ width, height, data: toRgba(rgb) }, quality).data);
  const png = new PNG({ width, height });
  png.data = toRgba(rgb);
  return Uint8Array.from(PNG.sync.write(png, { colorType: 2 }));
}

function isPng(buffer) {
  return buffer.subarray(0, 8).equals(Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]));
}

function isJpeg(buffer) {
  return buffer.subarray(0, 3).equals(Buffer.from([0xff, 0xd8, 0xff]));
}

function decodePng(buffer) {
  if (buffer.length < 33)
    throw badInput('the PNG file is cut short');
  checkSize(buffer.readUInt32BE(16), buffer.readUInt32BE(20));
  const { width, height, data } = PNG.sync.read(buffer);
  return { width, height, rgb: flatten(data) };
}

function decodeJpeg(buffer) {
  const { width, height, data } = jpeg.decode(buffer, {
    useTArray: true,
    formatAsRGBA: false,
    tolerantDecoding: false,
    maxResolutionInMP: MAX_INPUT_PIXELS / 1e6,
    maxMemoryUsageInMB: 256,
  });
  checkSize(width, height);
  return { width, height, rgb: data };
}

function checkSize(width, height) {
  if (width < 1 || height < 1)
    throw badInput(`the picture is ${width} x ${height} pixels`);
  if (width * height > MAX_INPUT_PIXELS)
    throw badInput(`the picture is ${width} x ${height} pixels; at most ${MAX_INPUT_PIXELS} pixels are taken`);
}

/** RGBA laid over white. */
function flatten(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3] / 255;
    for (let channel = 0; channel < 3; channel++)
      rgb[to++] = Math.round(rgba[from + channel] * alpha + 255 * (1 - alpha));
  }
  return rgb;
}

function toRgba(rgb) {
  const rgba = Buffer.alloc((rgb.length / 3) * 4, 255);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4)
    rgba.set(rgb.subarray(from, from + 3), to);
  return rgba;
}
