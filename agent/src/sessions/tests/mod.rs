//! Synthetic kernel events in the order a real sshd causes them, and the
//! timelines they must become.

mod allowing;
mod attribution;
mod endings;
mod failed_logins;
mod files;
mod losses;
mod network;
mod restart;
mod rig;
mod streams;
mod takeover;
mod terminals;
