// A server that says when a request has arrived, by the clock of this process (the stand-in's is another one, and what is
// measured with this takes less than clocks differ), and whose answer is made beforehand.
import { createServer } from 'node:net';

const yes = JSON.stringify({ object: 'chat.completion', model: 'bench',
  choices: [{ index: 0, message: { role: 'assistant', content: 'yes' }, finish_reason: 'stop' }] });

const replyOf = (answer) => Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${answer.length}\r\n\r\n${answer}`);

/** Whether these bytes are a whole request. */
function isComplete(text) {
  const end = text.indexOf('\r\n\r\n');
  const length = /content-length: *(\d+)/i.exec(text.slice(0, end));
  return end > 0 && text.length >= end + 4 + Number(length?.[1] ?? 0);
}

/** `next()` is a promise of the time (performance.now()) at which the next request's last byte is there. */
export function listen(answer = yes) {
  const reply = replyOf(answer);
  let arrived = () => {};
  const server = createServer((socket) => {
    let text = '';
    socket.setNoDelay();
    socket.on('error', () => {});
    socket.on('data', (data) => {
      text += data.toString('latin1');
      if (!isComplete(text))
        return;
      arrived(performance.now());
      text = '';
      socket.write(reply);
    });
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({
      url: `http://127.0.0.1:${server.address().port}`,
      next: () => new Promise((then) => { arrived = then; }),
      close: () => server.close(),
    }));
  });
}
