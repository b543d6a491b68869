"""What results do to photos: folders a class, and taking that back; spreadsheets."""
