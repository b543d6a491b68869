"""What results do to photos: folders a class, keywords, and taking both back; spreadsheets."""
