// Each iteration opens a WebSocket, sends ten messages one after another, each when the
// echo of the one before is there, and closes.
import ws from 'k6/ws';
import { check } from 'k6';
import { Trend } from 'k6/metrics';
import { gateway, steady } from '../k6/profile.js';

const messages = 10;
const roundTrip = new Trend('message_round_trip', true);
const padding = 'x'.repeat(200);

export const options = steady();

export default function () {
  const seen = { echoes: 0, wrong: 0, errors: 0 };
  const response = ws.connect(`${gateway.replace('http', 'ws')}/ws`, {}, (socket) => {
    let sent;
    const send = () => {
      sent = Date.now();
      socket.send(`${seen.echoes} ${padding}`);
    };
    socket.on('open', send);
    socket.on('message', (text) => {
      roundTrip.add(Date.now() - sent);
      if (text !== `${seen.echoes} ${padding}`) seen.wrong++;
      if (++seen.echoes < messages) send();
      else socket.close();
    });
    socket.on('error', () => seen.errors++);
    socket.setTimeout(() => socket.close(), 10000);
  });
  check(response, { 'upgraded': (r) => r && r.status === 101 });
  check(seen, {
    'all echoes came': (s) => s.echoes === messages,
    'all were right': (s) => s.wrong === 0,
    'no errors': (s) => s.errors === 0,
  });
}
