// A worker of RabbitMQ: prefetch, and a message is acknowledged when its answer is committed.
import amqp from 'amqplib';
import { Countdown, call, save, settings, warmUp } from './work.mjs';

const countdown = new Countdown();
const connection = await amqp.connect(process.env.BENCH_RABBITMQ, { noDelay: true });
const channel = await connection.createChannel();
await channel.prefetch(settings.inFlight);
await warmUp();

async function work(message) {
  try {
    await save(Number(message.properties.messageId), await call(message.content));
    channel.ack(message);
    countdown.done();
  } catch (error) {
    process.send({ error: String(error) });
    channel.nack(message);
  }
}

let consumer;
process.on('message', async ({ run, stop }) => {
  if (run) {
    countdown.start(run);
    ({ consumerTag: consumer } = await channel.consume(settings.database, work));
  }
  if (stop) {
    await channel.cancel(consumer);
    process.send({ stopped: true });
  }
});
process.send({ ready: true });
