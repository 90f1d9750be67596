import { expect, test } from 'vitest';
import { BodyRoom } from './body.ts';

test('one team leaves half of the room for bodies to others', () => {
  const room = new BodyRoom(100);
  room.take('red', 50);
  expect(() => room.take('red', 1)).toThrow('too many large requests');
  room.take('blue', 50);
  expect(() => room.take('green', 1)).toThrow('too many large requests');
  room.give('red', 50);
  room.take('red', 50);
});
