//! Which part of a larger screen the window shows.

use super::emulator::{Emulator, Size};

/// The window's place on the recorded screen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Viewport {
    origin: (u16, u16),
    by_hand: bool,
}

impl Viewport {
    /// Shows the cursor as it moves, or stays at the top left corner.
    pub fn new(follow: bool) -> Self {
        Self {
            origin: (0, 0),
            by_hand: !follow,
        }
    }

    /// Moves the window by hand; from then on it does not follow the cursor.
    pub fn shift(&mut self, columns: i16, rows: i16) {
        self.by_hand = true;
        let (left, top) = self.origin;
        self.origin = (
            left.saturating_add_signed(columns),
            top.saturating_add_signed(rows),
        );
    }

    /// The part to show now: inside the screen, and around the cursor unless
    /// the window was moved by hand.
    pub fn place(&mut self, emulator: &Emulator, canvas: Size) -> (u16, u16) {
        let screen = emulator.size();
        let (column, row) = emulator.cursor();
        let (left, top) = self.origin;
        let follow = |origin: u16, cursor: u16, length: u16| match self.by_hand {
            true => origin,
            false => origin.min(cursor).max((cursor + 1).saturating_sub(length)),
        };
        let inside =
            |origin: u16, screen: u16, canvas: u16| origin.min(screen.saturating_sub(canvas));
        self.origin = (
            inside(
                follow(left, column, canvas.columns),
                screen.columns,
                canvas.columns,
            ),
            inside(follow(top, row, canvas.rows), screen.rows, canvas.rows),
        );
        self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::Viewport;
    use crate::replay::emulator::{Emulator, Size};

    #[test]
    fn the_view_follows_the_cursor_until_it_is_moved() {
        let canvas = Size {
            columns: 10,
            rows: 5,
        };
        let mut emulator = Emulator::new(Size {
            columns: 40,
            rows: 20,
        });
        let mut viewport = Viewport::new(true);
        assert_eq!(viewport.place(&emulator, canvas), (0, 0));
        emulator.feed(b"\x1b[20;40H");
        assert_eq!(viewport.place(&emulator, canvas), (30, 15));
        emulator.feed(b"\x1b[1;1H");
        assert_eq!(viewport.place(&emulator, canvas), (0, 0));
        viewport.shift(5, 100);
        assert_eq!(viewport.place(&emulator, canvas), (5, 15));
        emulator.feed(b"\x1b[10;1H");
        assert_eq!(viewport.place(&emulator, canvas), (5, 15));
    }
}
