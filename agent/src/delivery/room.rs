//! What the spool does when its disk is full.

use super::spool::Spool;

impl Spool {
    /// Looks how much room the disk has, and keeps some for the end again.
    pub(super) fn look_for_room(&mut self) {
        let available = self.usage.measure(&self.options.directory);
        if self.usage.is_spent() && self.reserve.restore(available) {
            tracing::info!("the disk of the spool has room again");
            self.usage.set_spent(false);
        }
    }

    /// A write found no room: what is open gets the reserve.
    pub(super) fn spend_reserve(&mut self) {
        self.usage.set_spent(true);
        match self.reserve.spend() {
            Ok(true) => tracing::error!(
                "the disk of the spool is full: no new event is taken, and open sessions are sealed in the room that was kept for it"
            ),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the room kept for a full disk cannot be used"),
        }
    }
}
